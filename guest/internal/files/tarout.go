package files

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"syscall"
	"time"
)

const copyBytes = 256 << 10

// WriteTar writes the tree at name, with names relative to its parent. Sockets, FIFOs and devices are left out: a
// reader outside could do nothing with them.
func WriteTar(names Namer, name string, out io.Writer) error {
	w := tarWriter{names: names, tar: tar.NewWriter(out), buf: make([]byte, copyBytes)}
	top := path.Base(path.Clean(name))
	if top == "/" {
		top = "."
	}
	if err := w.add(name, top); err != nil {
		return err
	}
	return w.tar.Close()
}

type tarWriter struct {
	names Namer
	tar   *tar.Writer
	buf   []byte
}

func (w *tarWriter) add(name, inside string) error {
	var stat syscall.Stat_t
	if err := syscall.Lstat(name, &stat); err != nil {
		return problem(name, err)
	}
	header := w.header(inside, &stat)
	switch kind(stat.Mode) {
	case "directory":
		return w.addDirectory(name, header)
	case "symlink":
		target, err := os.Readlink(name)
		if err != nil {
			return err
		}
		header.Typeflag, header.Linkname = tar.TypeSymlink, target
		return w.tar.WriteHeader(header)
	case "file":
		return w.addFile(name, header)
	}
	return nil
}

func (w *tarWriter) header(inside string, stat *syscall.Stat_t) *tar.Header {
	user, group := w.names.Names(stat.Uid, stat.Gid)
	header := &tar.Header{Format: tar.FormatPAX, Name: inside, Mode: int64(stat.Mode & permBits), Uid: int(stat.Uid),
		Gid: int(stat.Gid), Uname: user, Gname: group, ModTime: time.Unix(stat.Mtim.Sec, stat.Mtim.Nsec)}
	if user == strconv.Itoa(header.Uid) {
		header.Uname = ""
	}
	if group == strconv.Itoa(header.Gid) {
		header.Gname = ""
	}
	return header
}

func (w *tarWriter) addDirectory(name string, header *tar.Header) error {
	inside := header.Name
	header.Typeflag, header.Name = tar.TypeDir, inside+"/"
	if err := w.tar.WriteHeader(header); err != nil {
		return err
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		err := w.add(path.Join(name, entry.Name()), path.Join(inside, entry.Name()))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

func (w *tarWriter) addFile(name string, header *tar.Header) error {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if header.Size, err = regular(int(file.Fd()), name); err != nil {
		return err
	}
	header.Typeflag = tar.TypeReg
	if err := w.tar.WriteHeader(header); err != nil {
		return err
	}
	// The file may grow or shrink meanwhile; the archive can hold only what its header says.
	copied, err := io.CopyBuffer(struct{ io.Writer }{w.tar}, io.LimitReader(file, header.Size), w.buf)
	if err == nil && copied < header.Size {
		err = fmt.Errorf("%s shrank while it was read", name)
	}
	return err
}
