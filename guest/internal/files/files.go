// Package files serves the sandbox's files as one of its users. Every function takes an absolute path, which the
// kernel resolves inside the sandbox, and must be called through asuser.Run; errors are what wire.FromErr reads.
package files

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

// Namer knows the names of ids; *users.Book is one.
type Namer interface {
	Names(uid, gid uint32) (user, group string)
}

var _ Namer = (*users.Book)(nil)

const permBits = 0o7777

func kind(mode uint32) string {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return "file"
	case syscall.S_IFDIR:
		return "directory"
	case syscall.S_IFLNK:
		return "symlink"
	case syscall.S_IFIFO:
		return "fifo"
	case syscall.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// Stat describes one entry; a symlink itself unless follow.
func Stat(names Namer, name string, follow bool) (wire.FileInfo, error) {
	var stat syscall.Stat_t
	call := syscall.Lstat
	if follow {
		call = syscall.Stat
	}
	if err := call(name, &stat); err != nil {
		return wire.FileInfo{}, problem(name, err)
	}
	return describe(names, name, &stat), nil
}

func describe(names Namer, name string, stat *syscall.Stat_t) wire.FileInfo {
	clean := path.Clean(name)
	user, group := names.Names(stat.Uid, stat.Gid)
	info := wire.FileInfo{Path: wire.Text(clean), Name: wire.Text(path.Base(clean)), Type: kind(stat.Mode), Size: stat.Size,
		Mode: stat.Mode & permBits, UID: stat.Uid, GID: stat.Gid, User: wire.Text(user), Group: wire.Text(group),
		ModifiedAt: float64(stat.Mtim.Sec) + float64(stat.Mtim.Nsec/1000)/1e6, Inode: stat.Ino}
	if info.Type == "symlink" {
		target, _ := os.Readlink(name)
		text := wire.Text(target)
		info.Target = &text
	}
	return info
}

// problem names the path that an error is about.
func problem(name string, err error) error {
	return &os.PathError{Op: "cannot use", Path: name, Err: err}
}

// final follows the symlinks of the last component only: the place where writing to name would write.
func final(name string) (string, error) {
	name = strings.TrimRight(name, "/")
	for hops := 0; hops < 40; hops++ {
		target, err := os.Readlink(name)
		if err != nil {
			return name, nil
		}
		if !filepath.IsAbs(target) {
			target = path.Dir(name) + "/" + target
		}
		name = target
	}
	return "", problem(name, syscall.ELOOP)
}

// List calls emit for everything below name, level by level, each directory's entries by name. What cannot be read
// below the first level is left out.
func List(names Namer, name string, depth int, emit func(wire.FileInfo) error) error {
	level := []string{name}
	for n := 0; n < depth && len(level) > 0; n++ {
		var next []string
		for _, dir := range level {
			err := listOne(names, dir, emit, &next)
			if err != nil && (n == 0 || !os.IsPermission(err) && !os.IsNotExist(err)) {
				return err
			}
		}
		level = next
	}
	return nil
}

func listOne(names Namer, dir string, emit func(wire.FileInfo) error, below *[]string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		full := path.Join(dir, entry.Name())
		info, err := Stat(names, full, false)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = emit(info)
		}
		if err != nil {
			return err
		}
		if info.Type == "directory" {
			*below = append(*below, full)
		}
	}
	return nil
}
