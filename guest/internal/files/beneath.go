package files

import (
	"errors"
	"path"
	"strings"
	"syscall"
	"unsafe"

	"cloche/guest/internal/wire"
)

const (
	openat2      = 437
	beneathLinks = 0x08 | 0x02 // RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
	pathOnly     = 0x200000    // O_PATH
	noFollowFlag = 0x100       // AT_SYMLINK_NOFOLLOW
	removeDir    = 0x200       // AT_REMOVEDIR
	maxNameBytes = 4096
)

// tree is a directory that nothing done through it can leave: paths are resolved by the kernel beneath its
// descriptor, or, where the kernel cannot, step by step without following symlinks.
type tree struct {
	root    int
	dir     string // the parent that was used last, and its descriptor
	dirFD   int
	stepped bool
}

func openTree(name string) (*tree, error) {
	fd, err := syscall.Open(name, pathOnly|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, problem(name, err)
	}
	return &tree{root: fd, dirFD: -1}, nil
}

func (t *tree) close() {
	t.forget()
	_ = syscall.Close(t.root)
}

func (t *tree) forget() {
	if t.dirFD >= 0 {
		_ = syscall.Close(t.dirFD)
	}
	t.dir, t.dirFD = "", -1
}

// inside cleans an archive's name. "" is the tree itself.
func inside(name string) (string, error) {
	if strings.HasPrefix(name, "/") || strings.IndexByte(name, 0) >= 0 || len(name) > maxNameBytes {
		return "", wire.Invalid("the archive holds an entry that leaves its tree: %q", name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", wire.Invalid("the archive holds an entry that leaves its tree: %q", name)
		}
	}
	if clean := path.Clean(name); clean != "." {
		return clean, nil
	}
	return "", nil
}

// parent returns a descriptor of the directory that holds name, made if missing, and name's last component. The
// descriptor stays the tree's.
func (t *tree) parent(name string) (int, string, error) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" {
		return t.root, base, nil
	}
	if t.dirFD >= 0 && t.dir == dir {
		return t.dirFD, base, nil
	}
	fd, err := t.descend(dir)
	if err != nil {
		return -1, "", err
	}
	t.forget()
	t.dir, t.dirFD = dir, fd
	return fd, base, nil
}

func (t *tree) descend(dir string) (int, error) {
	fd, err := t.open(dir)
	if !errors.Is(err, syscall.ENOENT) {
		return fd, leaving(dir, err)
	}
	above, base, err := t.parent(dir)
	if err != nil {
		return -1, err
	}
	if err := syscall.Mkdirat(above, base, 0o755); err != nil && err != syscall.EEXIST {
		return -1, problem(dir, err)
	}
	fd, err = t.open(dir)
	return fd, leaving(dir, err)
}

// leaving tells a path that would go out of the tree, or through something that is no directory, as the archive's fault.
func leaving(name string, err error) error {
	switch err {
	case nil:
		return nil
	case syscall.EXDEV, syscall.ELOOP, syscall.ENOTDIR, syscall.ENOENT:
		return wire.Invalid("the archive holds an entry below a link that leaves its tree: %q", name)
	}
	return problem(name, err)
}

func (t *tree) open(dir string) (int, error) {
	if !t.stepped {
		fd, errno := t.openBeneath(dir)
		if errno != syscall.ENOSYS && errno != syscall.EPERM {
			return fd, asError(errno)
		}
		t.stepped = true
	}
	return t.openStepwise(dir)
}

func asError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func (t *tree) openBeneath(dir string) (int, syscall.Errno) {
	how := [3]uint64{pathOnly | syscall.O_DIRECTORY | syscall.O_CLOEXEC, 0, beneathLinks}
	name, err := syscall.BytePtrFromString(dir)
	if err != nil {
		return -1, syscall.EINVAL
	}
	for tries := 0; ; tries++ {
		fd, _, errno := syscall.Syscall6(openat2, uintptr(t.root), uintptr(unsafe.Pointer(name)),
			uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		if errno != syscall.EAGAIN || tries == 32 { // EAGAIN: something was renamed meanwhile
			return int(fd), errno
		}
	}
}

func (t *tree) openStepwise(dir string) (int, error) {
	at := t.root
	for _, part := range strings.Split(dir, "/") {
		flags := pathOnly | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
		fd, err := syscall.Openat(at, part, flags, 0)
		if at != t.root {
			_ = syscall.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = fd
	}
	return at, nil
}

// at calls one of the kernel's *at functions for a name in a directory.
func at(call uintptr, dir int, name string, a, b uintptr) error {
	text, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall6(call, uintptr(dir), uintptr(unsafe.Pointer(text)), a, b, 0, 0)
	return asError(errno)
}
