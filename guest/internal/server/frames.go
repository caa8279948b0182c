package server

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"cloche/guest/internal/output"
	"cloche/guest/internal/procs"
	"cloche/guest/internal/wire"
)

type frameBuffer [wire.FrameHeader + wire.MaxPayload]byte

var frameBuffers = sync.Pool{New: func() any { return new(frameBuffer) }}

// stream sends `head`, then frames until the process has ended and all is sent, or, to a reader that does not follow,
// until what is there is sent.
func stream(w http.ResponseWriter, r *http.Request, p *procs.Process, reader *output.Reader, head []byte) error {
	w.Header().Set("Content-Type", "application/vnd.cloche.frames")
	w.WriteHeader(http.StatusOK)
	out := sender{w: w, flusher: http.NewResponseController(w)}
	if out.send(head); out.err == nil {
		out.follow(r, reader)
	}
	if out.err == nil && p.Exited() {
		body, err := json.Marshal(p.Info())
		if err != nil {
			return http.ErrAbortHandler
		}
		out.send(wire.Frame(wire.FrameExited, 0, body))
	}
	return nil
}

type sender struct {
	w       http.ResponseWriter
	flusher *http.ResponseController
	err     error
}

func (s *sender) send(frame []byte) {
	if len(frame) == 0 || s.err != nil {
		return
	}
	_, s.err = s.w.Write(frame)
}

func (s *sender) follow(r *http.Request, reader *output.Reader) {
	silence := time.NewTimer(keepalive)
	defer silence.Stop()
	for s.err == nil {
		if s.drain(reader) || s.err != nil {
			return
		}
		_ = s.flusher.Flush()
		silence.Reset(keepalive)
		select {
		case <-reader.Wake():
		case <-silence.C:
			s.send(wire.Frame(wire.FrameKeepalive, 0, nil))
		case <-r.Context().Done():
			s.err = r.Context().Err()
		}
	}
}

// drain sends what is there now; over tells that nothing more will come. The buffer goes back before any waiting.
func (s *sender) drain(reader *output.Reader) (over bool) {
	buf := frameBuffers.Get().(*frameBuffer)
	defer frameBuffers.Put(buf)
	for s.err == nil {
		event, ok, over := reader.Next(buf[wire.FrameHeader:])
		kind := byte(wire.FrameStdout + event.Stream)
		switch {
		case !ok:
			return over
		case event.Lost > 0:
			s.send(wire.Gap(kind, event.Lost, event.Offset))
		default:
			wire.PutHeader(buf[:], kind, event.N, event.Offset)
			s.send(buf[:wire.FrameHeader+event.N])
		}
	}
	return true
}
