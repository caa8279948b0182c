package box

import (
	"bufio"
	"io"
	"os"
	"runtime"
	"sort"
	"syscall"

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
	if err := saveTree(saveUpFD, "upper", os.NewFile(saveOutFD, "out")); err != nil {
		os.Stderr.WriteString("cloche: cannot save the disk: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

func saveTree(parent int, name string, to io.Writer) error {
	s := &saver{out: bufio.NewWriterSize(to, 1<<20), seen: map[uint64]int{}, dir: parent}
	if err := s.walk(name); err != nil {
		return err
	}
	if err := writeRecord(s.out, &record{Kind: kindEnd}); err != nil {
		return err
	}
	return s.out.Flush()
}

// saver walks with one open directory at a time, however deep the tree is. Nothing else touches the tree, so ".." leads
// back to where it came from.
type saver struct {
	out  *bufio.Writer
	seen map[uint64]int
	dir  int
	todo [][]string
}

func (s *saver) walk(top string) error {
	if err := s.descend(top); err != nil {
		return err
	}
	defer func() { _ = syscall.Close(s.dir) }()
	for {
		last := len(s.todo) - 1
		if len(s.todo[last]) > 0 {
			name := s.todo[last][0]
			s.todo[last] = s.todo[last][1:]
			if err := s.entry(name); err != nil {
				return err
			}
			continue
		}
		if last == 0 {
			return nil
		}
		if err := s.ascend(); err != nil {
			return err
		}
	}
}

// descend makes a directory the open one and notes what is in it.
func (s *saver) descend(name string) error {
	fd, err := syscall.Openat(s.dir, name, openDir|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	names, err := namesIn(fd)
	if err != nil {
		_ = syscall.Close(fd)
		return err
	}
	if len(s.todo) > 0 {
		_ = syscall.Close(s.dir)
	}
	s.dir, s.todo = fd, append(s.todo, names)
	return nil
}

func namesIn(fd int) ([]string, error) {
	again, err := syscall.Openat(fd, ".", openDir, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(again), "directory")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	sort.Strings(names)
	return names, err
}

func (s *saver) ascend() error {
	fd, err := syscall.Openat(s.dir, "..", openDir, 0)
	if err != nil {
		return err
	}
	_ = syscall.Close(s.dir)
	s.dir, s.todo = fd, s.todo[:len(s.todo)-1]
	return writeRecord(s.out, &record{Kind: kindUp})
}

func (s *saver) entry(name string) error {
	var st syscall.Stat_t
	if err := fstatat(s.dir, name, &st); err != nil {
		return err
	}
	r := &record{Name: []byte(name), Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), MtimeNs: st.Mtim.Nano()}
	kind := st.Mode & syscall.S_IFMT
	// overlayfs gives all its whiteouts one inode; that is no fact about the sandbox's files
	if st.Nlink > 1 && kind != syscall.S_IFDIR && kind != syscall.S_IFCHR && kind != syscall.S_IFSOCK {
		if number, known := s.seen[st.Ino]; known {
			return writeRecord(s.out, &record{Kind: kindHard, Name: r.Name, Link: number})
		}
		r.Link = len(s.seen) + 1
		s.seen[st.Ino] = r.Link
	}
	return s.write(r, &st)
}

func (s *saver) write(r *record, st *syscall.Stat_t) error {
	name := string(r.Name)
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		if err := s.descend(name); err != nil {
			return err
		}
		r.Kind, r.Xattrs = kindDir, xattrsOf(s.dir)
	case syscall.S_IFREG:
		return s.file(r, st.Size)
	case syscall.S_IFLNK:
		target := make([]byte, 4096)
		n, err := readlinkat(s.dir, name, target)
		if err != nil {
			return err
		}
		r.Kind, r.Target = kindLink, target[:n]
	case syscall.S_IFIFO:
		r.Kind = kindFifo
	case syscall.S_IFCHR:
		if st.Rdev != 0 {
			return nil
		}
		r.Kind = kindWhiteout
	default:
		// sockets mean nothing once their process is gone
		return nil
	}
	return writeRecord(s.out, r)
}

func (s *saver) file(r *record, size int64) error {
	flags := syscall.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_CLOEXEC
	fd, err := syscall.Openat(s.dir, string(r.Name), flags, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "file")
	defer file.Close()
	r.Kind, r.Size, r.Xattrs = kindFile, size, xattrsOf(fd)
	if err := writeRecord(s.out, r); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := syscall.Seek(fd, at, seekData)
		if err == syscall.ENXIO {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := syscall.Seek(fd, start, seekHole)
		if err != nil {
			return err
		}
		if err := s.data(file, start, min(end, size)-start); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func (s *saver) data(file *os.File, offset, length int64) error {
	if err := writeRecord(s.out, &record{Kind: kindData, Offset: offset, Length: length}); err != nil {
		return err
	}
	_, err := io.Copy(s.out, io.NewSectionReader(file, offset, length))
	return err
}
