package files

import (
	"io"
	"os"
	"path"
	"syscall"

	"cloche/guest/internal/wire"
)

// moveAcross moves between file systems: a copy beside the target, one rename, then the source goes.
func moveAcross(from, to string, overwrite bool) error {
	staging, err := os.MkdirTemp(path.Dir(to), ".cloche-move-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	copied := path.Join(staging, "tree")
	if err := copyTree(from, copied, make([]byte, copyBytes)); err != nil {
		return err
	}
	if err := rename(copied, to, overwrite); err != nil {
		return err
	}
	return os.RemoveAll(from)
}

func copyTree(from, to string, buf []byte) error {
	var stat syscall.Stat_t
	if err := syscall.Lstat(from, &stat); err != nil {
		return problem(from, err)
	}
	var err error
	switch kind(stat.Mode) {
	case "directory":
		err = copyDirectory(from, to, buf)
	case "file":
		err = copyFile(from, to, buf)
	case "symlink":
		return copyLink(from, to)
	default:
		return wire.Invalid("%s is a %s: it cannot be moved to another file system", from, kind(stat.Mode))
	}
	if err != nil {
		return err
	}
	_ = syscall.Lchown(to, int(stat.Uid), int(stat.Gid))
	_ = syscall.UtimesNano(to, []syscall.Timespec{stat.Atim, stat.Mtim})
	return syscall.Chmod(to, stat.Mode&permBits)
}

func copyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	return os.Symlink(target, to)
}

func copyDirectory(from, to string, buf []byte) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := copyTree(path.Join(from, entry.Name()), path.Join(to, entry.Name()), buf); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string, buf []byte) error {
	in, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, buf)
	if closing := out.Close(); err == nil {
		err = closing
	}
	return err
}
