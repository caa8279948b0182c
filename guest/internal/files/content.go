package files

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path"
	"strings"
	"syscall"

	"cloche/guest/internal/wire"
)

// OpenRead opens a regular file and returns its size.
func OpenRead(name string) (*os.File, int64, error) {
	// Without O_NONBLOCK the open of a FIFO would wait for a writer that may never come.
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, 0, problem(name, err)
	}
	size, err := regular(fd, name)
	if err != nil {
		_ = syscall.Close(fd)
		return nil, 0, err
	}
	return os.NewFile(uintptr(fd), name), size, nil
}

func regular(fd int, name string) (int64, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return 0, problem(name, err)
	}
	if found := kind(stat.Mode); found != "file" {
		return 0, wire.Invalid("%s is a %s, not a file", name, found).With("type", found)
	}
	return stat.Size, syscall.SetNonblock(fd, false)
}

// WriteOptions says how a file is to be written. Mode is nil when none was asked for; Offset is -1 when not given.
type WriteOptions struct {
	Mode          *uint32
	Atomic        bool
	AtomicAsked   bool
	Append        bool
	Offset        int64
	CreateParents bool
}

// Writing is a file that is being written. Either Commit or Abort ends it.
type Writing struct {
	File  *os.File
	place string
	temp  string
	mode  *uint32
	owner *syscall.Stat_t
}

// OpenWrite begins to write a file: beside it when atomic, else in place.
func OpenWrite(name string, options WriteOptions) (*Writing, error) {
	place, err := final(name)
	if err != nil {
		return nil, err
	}
	if options.CreateParents {
		if err := os.MkdirAll(path.Dir(place), 0o755); err != nil {
			return nil, err
		}
	}
	w := &Writing{place: place, mode: options.Mode}
	var stat syscall.Stat_t
	switch err := syscall.Lstat(place, &stat); {
	case err == nil && kind(stat.Mode) != "file":
		return nil, wire.Invalid("%s is a %s, not a file", place, kind(stat.Mode)).With("type", kind(stat.Mode))
	case err == nil:
		w.owner = &stat
	case err != syscall.ENOENT:
		return nil, problem(place, err)
	}
	if options.Atomic {
		err = w.beside()
		if !errors.Is(err, syscall.EACCES) || options.AtomicAsked || w.owner == nil {
			return w, err
		}
		// The directory is not the user's but the file may be: what nobody asked to be atomic is written in place.
	}
	return w, w.inPlace(options)
}

// temporaryPrefix and 16 hex digits are the name of a file that is still being written.
const temporaryPrefix = ".cloche-"

func temporaryName() string {
	var random [8]byte
	_, _ = rand.Read(random[:])
	return temporaryPrefix + hex.EncodeToString(random[:])
}

func isTemporary(place string) bool {
	digits, ours := strings.CutPrefix(path.Base(place), temporaryPrefix)
	return ours && len(digits) == 16 && strings.Trim(digits, "0123456789abcdef") == ""
}

func (w *Writing) beside() (err error) {
	w.temp = path.Join(path.Dir(w.place), temporaryName())
	w.File, err = os.OpenFile(w.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		w.temp = ""
		return problem(w.place, errors.Unwrap(err))
	}
	return nil
}

func (w *Writing) inPlace(options WriteOptions) (err error) {
	flags := os.O_WRONLY | os.O_CREATE | syscall.O_NOFOLLOW
	switch {
	case options.Append:
		flags |= os.O_APPEND
	case options.Offset < 0:
		flags |= os.O_TRUNC
	}
	if w.File, err = os.OpenFile(w.place, flags, 0o644); err != nil {
		return problem(w.place, errors.Unwrap(err))
	}
	if options.Offset > 0 {
		_, err = w.File.Seek(options.Offset, 0)
	}
	return err
}

// Commit gives the file its mode, owner and name.
func (w *Writing) Commit(names Namer) (wire.FileInfo, error) {
	err := w.settle()
	if closing := w.File.Close(); err == nil {
		err = closing
	}
	if err == nil && w.temp != "" {
		err = syscall.Rename(w.temp, w.place)
	}
	if err != nil {
		w.Abort()
		return wire.FileInfo{}, problem(w.place, err)
	}
	return Stat(names, w.place, false)
}

func (w *Writing) settle() error {
	fd := int(w.File.Fd())
	if w.temp != "" && w.owner != nil && syscall.Geteuid() == 0 {
		// Only root can keep another's file another's; for everyone else the new file is their own.
		_ = syscall.Fchown(fd, int(w.owner.Uid), int(w.owner.Gid))
	}
	switch {
	case w.mode != nil:
		return syscall.Fchmod(fd, *w.mode&permBits)
	case w.temp == "":
		return nil
	case w.owner != nil:
		return syscall.Fchmod(fd, w.owner.Mode&permBits)
	}
	return syscall.Fchmod(fd, 0o644)
}

// Abort leaves nothing behind of an atomic write.
func (w *Writing) Abort() {
	_ = w.File.Close()
	if w.temp != "" {
		_ = syscall.Unlink(w.temp)
	}
}
