package box

import (
	"bufio"
	"io"
	"os"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"unsafe"

	"cloche/guest/internal/sys"
)

const (
	saveUpFD  = 3
	saveOutFD = 4
	seekData  = 3
	seekHole  = 4
)

// SaveMain writes the box's upper layer to a descriptor. It runs after every process of the box has died, in a fresh user
// namespace with the box's own id maps: it can read all files of the box and has no rights over anything else.
//
// It waits on standard input until its ids are mapped, and takes the ids that its arguments name unless there is only one.
func SaveMain() {
	runtime.LockOSThread()
	if n, err := syscall.Read(0, make([]byte, 1)); n != 1 || err != nil {
		os.Exit(1)
	}
	if len(os.Args) == 2 && os.Args[1] == "root" {
		if err := sys.SetIds(0, 0, nil); err != nil {
			os.Exit(1)
		}
	}
	out := bufio.NewWriterSize(os.NewFile(saveOutFD, "out"), 1<<20)
	saver := &saver{out: out, seen: map[uint64]string{}}
	err := saver.directory(saveUpFD, "upper", "", 0)
	if err == nil {
		err = writeRecord(out, &record{Kind: kindEnd})
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		os.Stderr.WriteString("cloche: cannot save the disk: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

type saver struct {
	out  *bufio.Writer
	seen map[uint64]string
}

func (s *saver) directory(parent int, name, at string, depth int) error {
	if depth > maxDepth {
		return syscall.ELOOP
	}
	fd, err := syscall.Openat(parent, name, openDir|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	sort.Strings(names)
	for _, child := range names {
		if err := s.entry(fd, child, at+"/"+child, depth); err != nil {
			return err
		}
	}
	return nil
}

func (s *saver) entry(parent int, name, at string, depth int) error {
	fd, err := syscall.Openat(parent, name, sys.OPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	r := &record{Path: []byte(strings.TrimPrefix(at, "/")), Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		MtimeNs: st.Mtim.Nano()}
	if st.Nlink > 1 && st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		if first, known := s.seen[st.Ino]; known {
			r.Kind, r.Target = kindHard, []byte(first)
			return writeRecord(s.out, r)
		}
		s.seen[st.Ino] = string(r.Path)
	}
	return s.write(r, parent, name, at, &st, depth)
}

func (s *saver) write(r *record, parent int, name, at string, st *syscall.Stat_t, depth int) error {
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		r.Kind = kindDir
		r.Xattrs = xattrsAt(parent, name, true)
		if err := writeRecord(s.out, r); err != nil {
			return err
		}
		return s.directory(parent, name, at, depth+1)
	case syscall.S_IFREG:
		return s.file(r, parent, name, st.Size)
	case syscall.S_IFLNK:
		r.Kind = kindLink
		target := make([]byte, 4096)
		n, err := readlinkat(parent, name, target)
		if err != nil {
			return err
		}
		r.Target = target[:n]
		return writeRecord(s.out, r)
	case syscall.S_IFIFO:
		r.Kind = kindFifo
		return writeRecord(s.out, r)
	case syscall.S_IFCHR:
		if st.Rdev != 0 {
			return nil
		}
		r.Kind = kindWhiteout
		return writeRecord(s.out, r)
	}
	// sockets mean nothing once their process is gone
	return nil
}

func (s *saver) file(r *record, parent int, name string, size int64) error {
	fd, err := syscall.Openat(parent, name, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	r.Kind, r.Size = kindFile, size
	r.Xattrs = xattrsOf(fd)
	if r.Extents, err = extents(fd, size); err != nil {
		return err
	}
	if err := writeRecord(s.out, r); err != nil {
		return err
	}
	for _, extent := range r.Extents {
		if _, err := io.Copy(s.out, io.NewSectionReader(file, extent[0], extent[1])); err != nil {
			return err
		}
	}
	return nil
}

func extents(fd int, size int64) ([][2]int64, error) {
	found := [][2]int64{}
	for at := int64(0); at < size; {
		start, err := syscall.Seek(fd, at, seekData)
		if err == syscall.ENXIO {
			break
		}
		if err != nil {
			return nil, err
		}
		end, err := syscall.Seek(fd, start, seekHole)
		if err != nil {
			return nil, err
		}
		found = append(found, [2]int64{start, min(end, size) - start})
		at = end
	}
	return found, nil
}

func readlinkat(dir int, name string, buf []byte) (int, error) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, e := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func xattrsAt(parent int, name string, directory bool) map[string][]byte {
	flags := syscall.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	if directory {
		flags |= syscall.O_DIRECTORY
	}
	fd, err := syscall.Openat(parent, name, flags, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	return xattrsOf(fd)
}

func xattrsOf(fd int) map[string][]byte {
	names := make([]byte, 64<<10)
	n, _, e := syscall.Syscall(syscall.SYS_FLISTXATTR, uintptr(fd), uintptr(unsafe.Pointer(&names[0])), uintptr(len(names)))
	if e != 0 || n == 0 {
		return nil
	}
	found := map[string][]byte{}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		// origins name files of the lower layer that this box had; the next one has others
		if !strings.HasPrefix(name, "user.") || name == "user.overlay.origin" || name == "user.overlay.uuid" {
			continue
		}
		p, _ := syscall.BytePtrFromString(name)
		n, _, e := syscall.Syscall6(syscall.SYS_FGETXATTR, uintptr(fd), uintptr(unsafe.Pointer(p)),
			uintptr(unsafe.Pointer(&value[0])), uintptr(len(value)), 0, 0)
		if e == 0 {
			found[name] = append([]byte{}, value[:n]...)
		}
	}
	return found
}
