package files

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"

	"cloche/guest/internal/wire"
)

// Extracted counts what an archive held.
type Extracted struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// ReadTar extracts below name, which is made if missing. Nothing of the archive can reach outside of it.
func ReadTar(name string, body io.Reader) (Extracted, error) {
	if err := os.MkdirAll(name, 0o755); err != nil {
		return Extracted{}, err
	}
	t, err := openTree(name)
	if err != nil {
		return Extracted{}, err
	}
	defer t.close()
	x := &extractor{tree: t, archive: tar.NewReader(body), buf: make([]byte, copyBytes)}
	if err := x.run(); err != nil {
		return x.done, err
	}
	_, err = io.Copy(io.Discard, body)
	return x.done, err
}

type extractor struct {
	tree    *tree
	archive *tar.Reader
	buf     []byte
	done    Extracted
	late    []*tar.Header // directories, whose modes and times would be in the way before the end
}

func (x *extractor) run() error {
	for {
		header, err := x.archive.Next()
		if err == io.EOF {
			return x.finishDirectories()
		}
		if err != nil {
			return broken(err)
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := x.extract(header); err != nil {
			return err
		}
		x.done.Files++
	}
}

func broken(err error) error {
	var known *wire.Error
	if errors.As(err, &known) {
		return known
	}
	return wire.Invalid("the archive cannot be read: %v", err)
}

func (x *extractor) extract(header *tar.Header) error {
	name, err := inside(header.Name)
	if err != nil {
		return err
	}
	if name == "" {
		if header.Typeflag != tar.TypeDir {
			return wire.Invalid("the archive replaces its own tree: %q", header.Name)
		}
		return nil
	}
	header.Name = name
	dir, base, err := x.tree.parent(name)
	if err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		x.late = append(x.late, header)
		return x.directory(dir, base, name)
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(dir, base, header)
	case tar.TypeSymlink:
		return x.symlink(dir, base, header)
	case tar.TypeLink:
		return x.hardlink(base, header)
	}
	return wire.Invalid("the archive holds a device, a FIFO or something unknown: %q", name)
}

// clear makes room for an entry that is not a directory.
func (x *extractor) clear(dir int, base, name string) error {
	switch err := at(syscall.SYS_UNLINKAT, dir, base, 0, 0); err {
	case nil, syscall.ENOENT:
		return nil
	case syscall.EISDIR:
		if err := at(syscall.SYS_UNLINKAT, dir, base, removeDir, 0); err != nil {
			return problem(name, err)
		}
		x.tree.forgetIfBelow(name)
		return nil
	default:
		return problem(name, err)
	}
}

func (t *tree) forgetIfBelow(name string) {
	if t.dir == name {
		t.forget()
	}
}

func (x *extractor) directory(dir int, base, name string) error {
	err := syscall.Mkdirat(dir, base, 0o755)
	if err != syscall.EEXIST {
		return orProblem(name, err)
	}
	fd, err := syscall.Openat(dir, base, pathOnly|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err == nil {
		return syscall.Close(fd)
	}
	if err := x.clear(dir, base, name); err != nil {
		return err
	}
	return orProblem(name, syscall.Mkdirat(dir, base, 0o755))
}

func orProblem(name string, err error) error {
	if err == nil {
		return nil
	}
	return problem(name, err)
}

// file writes beside the final name and renames, so that nobody ever finds half of a file, and of two archives that
// hold the same file one wins as a whole.
func (x *extractor) file(dir int, base string, header *tar.Header) error {
	temp := temporaryName()
	if err := x.content(dir, temp, header); err != nil {
		_ = at(syscall.SYS_UNLINKAT, dir, temp, 0, 0)
		return err
	}
	err := syscall.Renameat(dir, temp, dir, base)
	if err == syscall.EISDIR {
		if err := x.clear(dir, base, header.Name); err != nil {
			_ = at(syscall.SYS_UNLINKAT, dir, temp, 0, 0)
			return err
		}
		err = syscall.Renameat(dir, temp, dir, base)
	}
	if err != nil {
		_ = at(syscall.SYS_UNLINKAT, dir, temp, 0, 0)
	}
	return orProblem(header.Name, err)
}

func (x *extractor) content(dir int, temp string, header *tar.Header) error {
	flags := syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	fd, err := syscall.Openat(dir, temp, flags, 0o600)
	if err != nil {
		return problem(header.Name, err)
	}
	file := os.NewFile(uintptr(fd), header.Name)
	defer file.Close()
	written, err := io.CopyBuffer(struct{ io.Writer }{file}, struct{ io.Reader }{x.archive}, x.buf)
	x.done.Bytes += written
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return problem(header.Name, errno)
		}
		return broken(err)
	}
	if err := syscall.Fchmod(fd, uint32(header.Mode)&0o777); err != nil {
		return problem(header.Name, err)
	}
	return setTime(dir, temp, header.ModTime)
}

// symlink keeps the target as it is: entries that come later are refused if they would go out through it.
func (x *extractor) symlink(dir int, base string, header *tar.Header) error {
	if err := x.clear(dir, base, header.Name); err != nil {
		return err
	}
	target, err := syscall.BytePtrFromString(header.Linkname)
	if err != nil || header.Linkname == "" {
		return wire.Invalid("the archive holds a broken link: %q", header.Name)
	}
	text, _ := syscall.BytePtrFromString(base)
	_, _, errno := syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(target)), uintptr(dir),
		uintptr(unsafe.Pointer(text)))
	return orProblem(header.Name, asError(errno))
}

func (x *extractor) hardlink(base string, header *tar.Header) error {
	source, err := inside(header.Linkname)
	if err != nil || source == "" || source == header.Name {
		return wire.Invalid("the archive links to what is not in its tree: %q", header.Linkname)
	}
	from, sourceBase, err := x.tree.parent(source)
	if err != nil {
		return err
	}
	// Looking up the second parent may close the first one's descriptor.
	if from, err = syscall.Dup(from); err != nil {
		return err
	}
	defer syscall.Close(from)
	dir, _, err := x.tree.parent(header.Name)
	if err == nil {
		err = x.clear(dir, base, header.Name)
	}
	if err != nil {
		return err
	}
	old, _ := syscall.BytePtrFromString(sourceBase)
	text, _ := syscall.BytePtrFromString(base)
	_, _, errno := syscall.Syscall6(syscall.SYS_LINKAT, uintptr(from), uintptr(unsafe.Pointer(old)), uintptr(dir),
		uintptr(unsafe.Pointer(text)), 0, 0)
	return orProblem(header.Name, asError(errno))
}

func setTime(dir int, base string, at_ time.Time) error {
	now := syscall.NsecToTimespec(at_.UnixNano())
	times := [2]syscall.Timespec{now, now}
	_ = at(syscall.SYS_UTIMENSAT, dir, base, uintptr(unsafe.Pointer(&times)), noFollowFlag)
	return nil
}

// finishDirectories goes from the inside out, so that a read-only directory is closed after what is in it.
func (x *extractor) finishDirectories() error {
	for i := len(x.late) - 1; i >= 0; i-- {
		header := x.late[i]
		dir, base, err := x.tree.parent(header.Name)
		if err != nil {
			continue // replaced by a later entry
		}
		fd, err := syscall.Openat(dir, base, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		_ = syscall.Fchmod(fd, uint32(header.Mode)&0o777)
		_ = syscall.Close(fd)
		_ = setTime(dir, base, header.ModTime)
	}
	return nil
}
