package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"syscall"

	"cloche/guest/internal/files"
	"cloche/guest/internal/wire"
)

// smallFile is read before its length is promised: files of /proc and /sys say a size that is not theirs.
const smallFile = 64 << 10

func (s *server) readFile(w http.ResponseWriter, r *http.Request) error {
	t, err := s.target(r, "path", "offset", "length")
	if err != nil {
		return err
	}
	offset, length := t.integer("offset", 10, 0), t.integer("length", 10, 1<<62)
	if offset < 0 || length < 0 {
		t.fail("offset", "offset and length may not be negative")
	}
	if t.err != nil {
		return t.err
	}
	var file *os.File
	var size int64
	err = t.as(func() (err error) { file, size, err = files.OpenRead(t.path); return err })
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cloche-File-Size", strconv.FormatInt(size, 10))
	return sendFile(w, file, min(length, max(0, size-offset)), size, length)
}

func sendFile(w http.ResponseWriter, file *os.File, expected, size, length int64) error {
	buf := frameBuffers.Get().(*frameBuffer)
	defer frameBuffers.Put(buf)
	if size == 0 { // of /proc, or empty: its end is where reading ends
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(file, length), buf[:])
		return abortOn(err)
	}
	if expected <= smallFile {
		n, err := io.ReadFull(file, buf[:expected])
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return err
		}
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = w.Write(buf[:n])
		return nil
	}
	w.Header().Set("Content-Length", strconv.FormatInt(expected, 10))
	sent, err := io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(file, expected), buf[:])
	if err == nil && sent < expected {
		err = io.ErrUnexpectedEOF
	}
	return abortOn(err)
}

// abortOn breaks the connection off: the client must not take half an answer for the whole.
func abortOn(err error) error {
	if err != nil {
		return http.ErrAbortHandler
	}
	return nil
}

func (s *server) writeFile(w http.ResponseWriter, r *http.Request) error {
	t, err := s.target(r, "path", "mode", "atomic", "append", "offset", "create_parents")
	if err != nil {
		return err
	}
	options := writeOptions(t.query)
	if t.err != nil {
		return t.err
	}
	var writing *files.Writing
	err = t.as(func() (err error) { writing, err = files.OpenWrite(t.path, options); return err })
	if err != nil {
		return err
	}
	if err := receive(writing.File, r.Body); err != nil {
		_ = t.as(func() error { writing.Abort(); return nil })
		return err
	}
	var info wire.FileInfo
	err = t.as(func() (err error) { info, err = writing.Commit(s.Manager.Book); return err })
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, info)
	return nil
}

func writeOptions(q *query) files.WriteOptions {
	options := files.WriteOptions{Append: q.flag("append", false), Offset: q.integer("offset", 10, -1),
		CreateParents: q.flag("create_parents", true), AtomicAsked: q.has("atomic")}
	inPlace := options.Append || options.Offset >= 0
	options.Atomic = q.flag("atomic", !inPlace)
	if q.has("offset") && options.Offset < 0 {
		q.fail("offset", "offset may not be negative")
	}
	if options.Append && options.Offset >= 0 {
		q.fail("offset", "append and offset exclude each other")
	}
	if options.Atomic && inPlace {
		q.fail("atomic", "a write that appends or has an offset cannot be atomic")
	}
	if q.has("mode") {
		mode := q.integer("mode", 8, 0)
		if mode < 0 || mode > 0o7777 {
			q.fail("mode", "mode must be octal permission bits")
		}
		bits := uint32(mode)
		options.Mode = &bits
	}
	return options
}

// receive copies a body into a file and tells the two ends' failures apart.
func receive(file *os.File, body io.Reader) error {
	buf := frameBuffers.Get().(*frameBuffer)
	defer frameBuffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{file}, struct{ io.Reader }{body}, buf[:])
	var onDisk *os.PathError
	var errno syscall.Errno
	if errors.As(err, &onDisk) && errors.As(err, &errno) {
		return &os.PathError{Op: "cannot write", Path: file.Name(), Err: errno}
	}
	if err != nil {
		return wire.Invalid("the request body broke off: %v", err)
	}
	return nil
}
