package files

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"cloche/guest/internal/wire"
)

// Mkdir makes a directory, with parents also those above it; then one that exists is no error.
func Mkdir(name string, mode uint32, parents bool) error {
	var before syscall.Stat_t
	existed := syscall.Stat(name, &before) == nil && kind(before.Mode) == "directory"
	if existed && parents {
		return nil
	}
	if parents {
		if err := os.MkdirAll(path.Dir(strings.TrimRight(name, "/")), 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(name, 0o700); err != nil {
		return err
	}
	return syscall.Chmod(name, mode&permBits)
}

const (
	noReplace = 1    // RENAME_NOREPLACE
	atCwd     = -100 // AT_FDCWD
)

func renameNumber() uintptr {
	if runtime.GOARCH == "amd64" {
		return 316
	}
	return 276
}

// Move renames; without overwrite an existing target is already_exists.
func Move(from, to string, overwrite bool) error {
	err := rename(from, to, overwrite)
	if errors.Is(err, syscall.EXDEV) {
		err = moveAcross(from, to, overwrite)
	}
	if err != nil {
		return &os.LinkError{Op: "cannot move", Old: from, New: to, Err: err}
	}
	return nil
}

func rename(from, to string, overwrite bool) error {
	if overwrite {
		return syscall.Rename(from, to)
	}
	old, err := syscall.BytePtrFromString(from)
	if err != nil {
		return err
	}
	renamed, err := syscall.BytePtrFromString(to)
	if err != nil {
		return err
	}
	cwd := atCwd
	_, _, errno := syscall.Syscall6(renameNumber(), uintptr(cwd), uintptr(unsafe.Pointer(old)), uintptr(cwd),
		uintptr(unsafe.Pointer(renamed)), noReplace, 0)
	switch errno {
	case 0:
		return nil
	case syscall.ENOSYS, syscall.EINVAL: // a file system or kernel without it: nearly as good
		if _, err := os.Lstat(to); err == nil {
			return syscall.EEXIST
		}
		return syscall.Rename(from, to)
	}
	return errno
}

// Chmod sets the permission bits; recursive does so below it too and follows no symlink there.
func Chmod(name string, mode uint32, recursive bool) error {
	if err := syscall.Chmod(name, mode&permBits); err != nil {
		return problem(name, err)
	}
	if !recursive {
		return nil
	}
	return filepath.WalkDir(name, func(below string, entry fs.DirEntry, err error) error {
		if err != nil || below == name || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chmod(below, fs.FileMode(mode&0o777)|special(mode))
	})
}

func special(mode uint32) (bits fs.FileMode) {
	for bit, name := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			bits |= name
		}
	}
	return bits
}

// Chown changes the owner; -1 keeps what is there. An id that the sandbox does not have is needs_subuid.
func Chown(name string, uid, gid int) error {
	err := syscall.Lchown(name, uid, gid)
	if err == syscall.EINVAL {
		return wire.Errorf("needs_subuid", "uid %d or gid %d is not mapped into this sandbox", uid, gid)
	}
	if err != nil {
		return problem(name, err)
	}
	return nil
}

// Symlink makes a symlink at name; its target is kept as it is written.
func Symlink(name, target string) error { return os.Symlink(target, name) }

// Remove deletes one entry, a tree only when recursive.
func Remove(name string, recursive bool) error {
	if path.Clean(name) == "/" {
		return wire.InvalidField("path", "the root directory cannot be removed")
	}
	var stat syscall.Stat_t
	if err := syscall.Lstat(strings.TrimRight(name, "/"), &stat); err != nil {
		return problem(name, err)
	}
	if recursive {
		return os.RemoveAll(name)
	}
	if kind(stat.Mode) == "directory" {
		if err := syscall.Rmdir(name); err != nil {
			return problem(name, err)
		}
		return nil
	}
	if err := syscall.Unlink(name); err != nil {
		return problem(name, err)
	}
	return nil
}
