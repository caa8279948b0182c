package server

import (
	"encoding/json"
	"net/http"
	"time"

	"cloche/guest/internal/procs"
	"cloche/guest/internal/wire"
)

const keepalive = 15 * time.Second

func (s *server) start(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "follow")
	follow := q.flag("follow", false)
	spec := &wire.ProcessSpec{}
	if q.err != nil {
		return q.err
	}
	if err := decode(w, r, spec); err != nil {
		return err
	}
	if follow {
		return s.startFollowed(w, r, spec)
	}
	p, err := s.Manager.Start(spec)
	if err == nil {
		reply(w, http.StatusCreated, p.Info())
	}
	return err
}

func (s *server) startFollowed(w http.ResponseWriter, r *http.Request, spec *wire.ProcessSpec) error {
	p, reader, err := s.Manager.StartFollowed(spec)
	defer reader.Close()
	if err != nil {
		return err
	}
	started, err := json.Marshal(p.Info())
	if err != nil {
		return err
	}
	return stream(w, r, p, reader, wire.Frame(wire.FrameStarted, 0, started))
}

func (s *server) processes(w http.ResponseWriter, _ *http.Request) error {
	s.Manager.Prune()
	list := []wire.ProcessInfo{}
	for _, p := range s.Manager.All() {
		list = append(list, p.Info())
	}
	reply(w, http.StatusOK, map[string]any{"processes": list})
	return nil
}

func (s *server) find(r *http.Request) (*procs.Process, error) {
	return s.Manager.Get(r.PathValue("id"))
}

func (s *server) process(w http.ResponseWriter, r *http.Request) error {
	p, err := s.find(r)
	if err == nil {
		reply(w, http.StatusOK, p.Info())
	}
	return err
}

func (s *server) wait(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "timeout_seconds")
	timeout := q.seconds("timeout_seconds", 30)
	p, err := s.find(r)
	if q.err != nil || err != nil {
		return first(q.err, err)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.Done():
	case <-timer.C:
	case <-r.Context().Done():
	}
	reply(w, http.StatusOK, p.Info())
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *server) output(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "stdout_offset", "stderr_offset", "follow")
	stdout, stderr := q.integer("stdout_offset", 10, 0), q.integer("stderr_offset", 10, 0)
	follow := q.flag("follow", false)
	p, err := s.find(r)
	if q.err != nil || err != nil {
		return first(q.err, err)
	}
	reader := p.Log.Open(stdout, stderr, follow)
	defer reader.Close()
	return stream(w, r, p, reader, nil)
}

func (s *server) stdin(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "offset")
	offset := q.integer("offset", 10, -1)
	if q.has("offset") && offset < 0 {
		q.fail("offset", "offset may not be negative")
	}
	p, err := s.find(r)
	if q.err != nil || err != nil {
		return first(q.err, err)
	}
	abort := func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now()) }
	total, err := p.WriteStdin(r.Context(), r.Body, offset, abort)
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, map[string]int64{"offset": total})
	return nil
}

func (s *server) closeStdin(w http.ResponseWriter, r *http.Request) error {
	p, err := s.find(r)
	if err == nil {
		err = p.CloseStdin()
	}
	if err != nil {
		return err
	}
	return noContent(w)
}

// signalName is a JSON number or string.
type signalName string

func (n *signalName) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		return (*wire.Text)(n).UnmarshalJSON(raw)
	}
	*n = signalName(raw)
	return nil
}

func (s *server) signal(w http.ResponseWriter, r *http.Request) error {
	body := struct {
		Signal signalName `json:"signal"`
		Group  *bool      `json:"group"`
	}{}
	p, err := s.find(r)
	if err == nil {
		err = decode(w, r, &body)
	}
	if err != nil {
		return err
	}
	signal, err := procs.ParseSignal(string(body.Signal))
	if err == nil {
		err = p.Signal(signal, body.Group == nil || *body.Group)
	}
	if err != nil {
		return err
	}
	return noContent(w)
}

func (s *server) resize(w http.ResponseWriter, r *http.Request) error {
	var size wire.PtySize
	p, err := s.find(r)
	if err == nil {
		err = decode(w, r, &size)
	}
	if err != nil {
		return err
	}
	if err := p.Resize(size.Size()); err != nil {
		return err
	}
	return noContent(w)
}

func (s *server) remove(w http.ResponseWriter, r *http.Request) error {
	if err := s.Manager.Delete(r.PathValue("id")); err != nil {
		return err
	}
	return noContent(w)
}
