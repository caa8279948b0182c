package server

import (
	"net/http"
	"sync"
	"time"

	"cloche/guest/internal/contexts"
	"cloche/guest/internal/wire"
)

func (s *server) contextRoutes() map[string]handler {
	return map[string]handler{
		"GET /v1/contexts": s.listContexts, "POST /v1/contexts": s.createContext, "GET /v1/contexts/{id}": s.context,
		"POST /v1/contexts/{id}/restart": s.restartContext, "POST /v1/contexts/{id}/interrupt": s.interruptContext,
		"DELETE /v1/contexts/{id}": s.removeContext, "POST /v1/executions": s.execute,
		"GET /v1/executions/{id}": s.execution, "POST /v1/executions/{id}/interrupt": s.interruptExecution,
	}
}

func (s *server) listContexts(w http.ResponseWriter, _ *http.Request) error {
	list := []wire.ContextInfo{}
	for _, c := range s.contexts.All() {
		list = append(list, c.Info())
	}
	reply(w, http.StatusOK, map[string]any{"contexts": list, "languages": s.contexts.Languages()})
	return nil
}

func (s *server) createContext(w http.ResponseWriter, r *http.Request) error {
	spec := &wire.ContextSpec{}
	if err := decode(w, r, spec); err != nil {
		return err
	}
	c, err := s.contexts.Create(spec)
	if err == nil {
		reply(w, http.StatusCreated, c.Info())
	}
	return err
}

func (s *server) context(w http.ResponseWriter, r *http.Request) error {
	c, err := s.contexts.Get(r.PathValue("id"))
	if err == nil {
		reply(w, http.StatusOK, c.Info())
	}
	return err
}

func (s *server) restartContext(w http.ResponseWriter, r *http.Request) error {
	c, err := s.contexts.Get(r.PathValue("id"))
	if err == nil {
		err = c.Restart()
	}
	if err == nil {
		reply(w, http.StatusOK, c.Info())
	}
	return err
}

func (s *server) interruptContext(w http.ResponseWriter, r *http.Request) error {
	c, err := s.contexts.Get(r.PathValue("id"))
	if err == nil {
		err = c.Interrupt()
	}
	if err != nil {
		return err
	}
	return noContent(w)
}

func (s *server) removeContext(w http.ResponseWriter, r *http.Request) error {
	if err := s.contexts.Remove(r.PathValue("id")); err != nil {
		return err
	}
	return noContent(w)
}

func (s *server) execute(w http.ResponseWriter, r *http.Request) error {
	spec := &wire.CodeSpec{}
	if err := decode(w, r, spec); err != nil {
		return err
	}
	_, reader, err := s.contexts.Run(spec)
	if err != nil {
		return err
	}
	return events(w, r, reader)
}

func (s *server) execution(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "after", "follow")
	after, follow := q.integer("after", 10, 0), q.flag("follow", false)
	if after < 0 {
		q.fail("after", "after may not be negative")
	}
	x, err := s.contexts.Execution(r.PathValue("id"))
	if q.err != nil || err != nil {
		return first(q.err, err)
	}
	return events(w, r, x.Open(int(after), follow))
}

func (s *server) interruptExecution(w http.ResponseWriter, r *http.Request) error {
	x, err := s.contexts.Execution(r.PathValue("id"))
	if err == nil {
		err = x.Interrupt()
	}
	if err != nil {
		return err
	}
	return noContent(w)
}

// lines are borrowed only while events move, and not kept when they have become large.
var lines = sync.Pool{New: func() any { return new([]byte) }}

const keptLine = 64 << 10

// events sends lines until the execution has ended, or until what is there is sent.
func events(w http.ResponseWriter, r *http.Request, reader *contexts.Reader) error {
	defer reader.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	var silence *time.Timer
	for {
		over, err := sendLines(w, reader)
		if over || err != nil {
			return nil
		}
		if flusher.Flush() != nil {
			return nil
		}
		if silence == nil {
			silence = time.NewTimer(keepalive)
			defer silence.Stop()
		}
		silence.Reset(keepalive)
		select {
		case <-reader.Wake():
		case <-silence.C:
			_, _ = w.Write([]byte(`{"type":"keepalive"}` + "\n"))
		case <-r.Context().Done():
			return nil
		}
	}
}

// sendLines sends what is there now.
func sendLines(w http.ResponseWriter, reader *contexts.Reader) (over bool, err error) {
	buf := lines.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= keptLine {
			lines.Put(buf)
		}
	}()
	for !over && err == nil {
		*buf, over = reader.Next((*buf)[:0])
		if len(*buf) == 0 {
			break
		}
		_, err = w.Write(*buf)
	}
	return over, err
}
