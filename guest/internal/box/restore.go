package box

import (
	"bufio"
	"io"
	"os"
	"path"
	"syscall"
	"unsafe"

	"cloche/guest/internal/sys"
)

const strict = sys.ResolveBeneath | sys.ResolveNoSymlinks | sys.ResolveNoMagiclinks

// restoreInto fills the upper layer from a saved disk; a negative descriptor means there is none. What was saved is
// hostile: every path is resolved beneath `dir` without links.
func restoreInto(dir string, from int) error {
	if from < 0 {
		return nil
	}
	root, err := syscall.Open(dir, openDir, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(root)
	in := bufio.NewReaderSize(os.NewFile(uintptr(from), "saved"), 1<<20)
	r := &restorer{root: root, in: in}
	for {
		entry, err := readRecord(in)
		if err != nil {
			return err
		}
		if entry.Kind == kindEnd {
			return r.finish()
		}
		if err := r.apply(entry); err != nil {
			return err
		}
	}
}

type restorer struct {
	root int
	in   *bufio.Reader
	dirs []*record
}

func (r *restorer) apply(entry *record) error {
	name := string(entry.Path)
	parent, err := sys.Openat2(r.root, "./"+path.Dir(name), openDir, 0, strict)
	if err != nil {
		return err
	}
	defer syscall.Close(parent)
	base := path.Base(name)
	if err := r.make(entry, parent, base); err != nil {
		return err
	}
	if entry.Kind == kindHard {
		return nil
	}
	if entry.Kind == kindDir {
		r.dirs = append(r.dirs, entry)
	}
	return dress(entry, parent, base)
}

func (r *restorer) make(entry *record, parent int, base string) error {
	switch entry.Kind {
	case kindDir:
		if err := syscall.Mkdirat(parent, base, 0o700); err != nil {
			return err
		}
		return r.directoryXattrs(entry, parent, base)
	case kindFile:
		return r.file(entry, parent, base)
	case kindLink:
		return symlinkat(string(entry.Target), parent, base)
	case kindFifo:
		return syscall.Mknodat(parent, base, syscall.S_IFIFO|0o600, 0)
	case kindWhiteout:
		// character device 0:0 is overlayfs's mark of a removed file, the one device that everybody may make
		return syscall.Mknodat(parent, base, syscall.S_IFCHR, 0)
	case kindHard:
		return r.hardLink(entry, parent, base)
	}
	return syscall.EBADMSG
}

func (r *restorer) directoryXattrs(entry *record, parent int, base string) error {
	fd, err := syscall.Openat(parent, base, openDir|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return setXattrs(fd, entry.Xattrs)
}

func (r *restorer) file(entry *record, parent int, base string) error {
	fd, err := syscall.Openat(parent, base, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), base)
	defer file.Close()
	for _, extent := range entry.Extents {
		if _, err := io.CopyN(io.NewOffsetWriter(file, extent[0]), r.in, extent[1]); err != nil {
			return err
		}
	}
	if err := file.Truncate(entry.Size); err != nil {
		return err
	}
	return setXattrs(fd, entry.Xattrs)
}

func (r *restorer) hardLink(entry *record, parent int, base string) error {
	from := string(entry.Target)
	dir, err := sys.Openat2(r.root, "./"+path.Dir(from), openDir, 0, strict)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	old, _ := syscall.BytePtrFromString(path.Base(from))
	link, err := syscall.BytePtrFromString(base)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall6(syscall.SYS_LINKAT, uintptr(dir), uintptr(unsafe.Pointer(old)), uintptr(parent),
		uintptr(unsafe.Pointer(link)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// dress sets owner before mode, since a change of owner clears setuid bits.
func dress(entry *record, parent int, base string) error {
	if err := syscall.Fchownat(parent, base, entry.UID, entry.GID, atSymlinkNofollow); err != nil && err != syscall.EPERM {
		return err
	}
	if entry.Kind == kindLink || entry.Kind == kindWhiteout {
		return nil
	}
	if err := syscall.Fchmodat(parent, base, entry.Mode, 0); err != nil {
		return err
	}
	return setMtime(parent, base, entry.MtimeNs)
}

// finish sets the times of directories last, because making entries changes them.
func (r *restorer) finish() error {
	for i := len(r.dirs) - 1; i >= 0; i-- {
		name := string(r.dirs[i].Path)
		parent, err := sys.Openat2(r.root, "./"+path.Dir(name), openDir, 0, strict)
		if err != nil {
			return err
		}
		err = setMtime(parent, path.Base(name), r.dirs[i].MtimeNs)
		_ = syscall.Close(parent)
		if err != nil {
			return err
		}
	}
	return nil
}

const atSymlinkNofollow = 0x100

func setMtime(parent int, base string, ns int64) error {
	p, err := syscall.BytePtrFromString(base)
	if err != nil {
		return err
	}
	times := [2]syscall.Timespec{syscall.NsecToTimespec(ns), syscall.NsecToTimespec(ns)}
	_, _, e := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(parent), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(&times)), atSymlinkNofollow, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

func symlinkat(target string, parent int, base string) error {
	t, err := syscall.BytePtrFromString(target)
	if err != nil {
		return err
	}
	b, err := syscall.BytePtrFromString(base)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(t)), uintptr(parent), uintptr(unsafe.Pointer(b)))
	if e != 0 {
		return e
	}
	return nil
}

func setXattrs(fd int, xattrs map[string][]byte) error {
	for name, value := range xattrs {
		p, err := syscall.BytePtrFromString(name)
		if err != nil {
			return err
		}
		var v unsafe.Pointer
		if len(value) > 0 {
			v = unsafe.Pointer(&value[0])
		}
		_, _, e := syscall.Syscall6(syscall.SYS_FSETXATTR, uintptr(fd), uintptr(unsafe.Pointer(p)), uintptr(v),
			uintptr(len(value)), 0, 0)
		if e != 0 {
			return e
		}
	}
	return nil
}
