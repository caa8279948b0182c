package box

import (
	"strings"
	"syscall"
	"unsafe"
)

const atSymlinkNofollow = 0x100

func text(s string) (unsafe.Pointer, error) {
	p, err := syscall.BytePtrFromString(s)
	return unsafe.Pointer(p), err
}

func asError(e syscall.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

func fstatat(dir int, name string, st *syscall.Stat_t) error {
	p, err := text(name)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall6(sysFstatat, uintptr(dir), uintptr(p), uintptr(unsafe.Pointer(st)), atSymlinkNofollow, 0, 0)
	return asError(e)
}

func readlinkat(dir int, name string, buf []byte) (int, error) {
	p, err := text(name)
	if err != nil {
		return 0, err
	}
	n, _, e := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(dir), uintptr(p), uintptr(unsafe.Pointer(&buf[0])),
		uintptr(len(buf)), 0, 0)
	return int(n), asError(e)
}

func symlinkat(target string, parent int, base string) error {
	t, err := text(target)
	if err != nil {
		return err
	}
	b, err := text(base)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(t), uintptr(parent), uintptr(b))
	return asError(e)
}

// linkat follows no link: another name for a symbolic link is a name for the link.
func linkat(fromDir int, from string, toDir int, to string) error {
	f, err := text(from)
	if err != nil {
		return err
	}
	t, err := text(to)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall6(syscall.SYS_LINKAT, uintptr(fromDir), uintptr(f), uintptr(toDir), uintptr(t), 0, 0)
	return asError(e)
}

func unlinkat(dir int, name string) error {
	p, err := text(name)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall(syscall.SYS_UNLINKAT, uintptr(dir), uintptr(p), 0)
	return asError(e)
}

func setMtime(parent int, base string, ns int64) error {
	p, err := text(base)
	if err != nil {
		return err
	}
	times := [2]syscall.Timespec{syscall.NsecToTimespec(ns), syscall.NsecToTimespec(ns)}
	_, _, e := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(parent), uintptr(p), uintptr(unsafe.Pointer(&times)),
		atSymlinkNofollow, 0, 0)
	return asError(e)
}

func setXattrs(fd int, xattrs map[string][]byte) error {
	for name, value := range xattrs {
		p, err := text(name)
		if err != nil {
			return err
		}
		var v unsafe.Pointer
		if len(value) > 0 {
			v = unsafe.Pointer(&value[0])
		}
		_, _, e := syscall.Syscall6(syscall.SYS_FSETXATTR, uintptr(fd), uintptr(p), uintptr(v), uintptr(len(value)), 0, 0)
		if e != 0 {
			return e
		}
	}
	return nil
}

// opaque hides what the lower layer has at a directory's place: losing it would bring removed files back.
const opaque = "user.overlay.opaque"

// xattrsOf reads the attributes that a box can set, first what overlayfs needs and then as many as fit into a record.
func xattrsOf(fd int) map[string][]byte {
	found, value, total := map[string][]byte{}, make([]byte, 64<<10), 0
	for _, name := range append([]string{opaque}, xattrNames(fd)...) {
		p, err := text(name)
		if err != nil {
			continue
		}
		n, _, e := syscall.Syscall6(syscall.SYS_FGETXATTR, uintptr(fd), uintptr(p), uintptr(unsafe.Pointer(&value[0])),
			uintptr(len(value)), 0, 0)
		if e != 0 || total+len(name)+int(n) > maxXattrs {
			continue
		}
		total += len(name) + int(n)
		found[name] = append([]byte{}, value[:n]...)
	}
	return found
}

func xattrNames(fd int) []string {
	buf, names := make([]byte, 64<<10), []string{}
	n, _, e := syscall.Syscall(syscall.SYS_FLISTXATTR, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	if e != 0 {
		return nil
	}
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		// origins name files of the lower layer that this box had; the next one has others
		if strings.HasPrefix(name, "user.") && name != opaque && name != "user.overlay.origin" && name != "user.overlay.uuid" {
			names = append(names, name)
		}
	}
	return names
}
