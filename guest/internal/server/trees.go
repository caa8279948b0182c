package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"time"

	"cloche/guest/internal/files"
	"cloche/guest/internal/wire"
)

const (
	ndjson       = "application/x-ndjson"
	streamBuffer = 64 << 10
)

// lateWriter answers 200 with the first byte, so that a failure before it can still be an error.
type lateWriter struct {
	http.ResponseWriter
	begun bool
}

func (w *lateWriter) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// end turns a failure in mid-stream into a broken connection.
func (w *lateWriter) end(err error) error {
	if err != nil && w.begun {
		return http.ErrAbortHandler
	}
	if err != nil {
		w.Header().Del("Content-Type")
	}
	return err
}

func (s *server) list(w http.ResponseWriter, r *http.Request) error {
	t, err := s.target(r, "path", "depth")
	if err != nil {
		return err
	}
	depth := t.integer("depth", 10, 1)
	if depth < 1 || depth > 1000 {
		t.fail("depth", "depth must be from 1 to 1000")
	}
	if t.err != nil {
		return t.err
	}
	w.Header().Set("Content-Type", ndjson)
	late := &lateWriter{ResponseWriter: w}
	out := bufio.NewWriterSize(late, streamBuffer)
	encoder := json.NewEncoder(out)
	err = t.as(func() error {
		return files.List(s.Manager.Book, t.path, int(depth), func(info wire.FileInfo) error { return encoder.Encode(info) })
	})
	if err == nil {
		err = out.Flush()
	}
	return late.end(err)
}

func (s *server) readTar(w http.ResponseWriter, r *http.Request) error {
	t, err := s.target(r, "path")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	late := &lateWriter{ResponseWriter: w}
	out := bufio.NewWriterSize(late, 4*streamBuffer)
	err = t.as(func() error { return files.WriteTar(s.Manager.Book, t.path, out) })
	if err == nil {
		err = out.Flush()
	}
	return late.end(err)
}

func (s *server) writeTar(w http.ResponseWriter, r *http.Request) error {
	t, err := s.target(r, "path")
	if err != nil {
		return err
	}
	var done files.Extracted
	body := bufio.NewReaderSize(r.Body, 4*streamBuffer)
	if err := t.as(func() (err error) { done, err = files.ReadTar(t.path, body); return err }); err != nil {
		return err
	}
	reply(w, http.StatusOK, done)
	return nil
}

func (s *server) watch(w http.ResponseWriter, r *http.Request) error {
	t, err := s.target(r, "path", "recursive")
	if err != nil {
		return err
	}
	recursive := t.flag("recursive", false)
	if t.err != nil {
		return t.err
	}
	var watcher *files.Watcher
	if err := t.as(func() (err error) { watcher, err = files.Watch(t.path, recursive); return err }); err != nil {
		return err
	}
	stop := make(chan struct{})
	defer close(stop)
	defer watcher.Close()
	events := make(chan []wire.WatchEvent, 16)
	go func() {
		defer close(events)
		_ = t.as(func() error { return collect(watcher, events, stop) })
	}()
	return sendEvents(w, r, events)
}

func collect(watcher *files.Watcher, events chan<- []wire.WatchEvent, stop <-chan struct{}) error {
	for {
		batch, err := watcher.Next()
		if errors.Is(err, os.ErrClosed) || err != nil {
			return err
		}
		select {
		case events <- batch:
		case <-stop:
			return nil
		}
	}
}

func sendEvents(w http.ResponseWriter, r *http.Request, events <-chan []wire.WatchEvent) error {
	w.Header().Set("Content-Type", ndjson)
	encoder, flusher := json.NewEncoder(w), http.NewResponseController(w)
	silence := time.NewTimer(keepalive)
	defer silence.Stop()
	batch := []wire.WatchEvent{{Event: "ready"}}
	for {
		for _, event := range batch {
			if encoder.Encode(event) != nil {
				return nil
			}
		}
		if flusher.Flush() != nil {
			return nil
		}
		silence.Reset(keepalive)
		var open bool
		select {
		case batch, open = <-events:
			if !open {
				return http.ErrAbortHandler
			}
		case <-silence.C:
			batch = []wire.WatchEvent{{Event: "keepalive"}}
		case <-r.Context().Done():
			return nil
		}
	}
}
