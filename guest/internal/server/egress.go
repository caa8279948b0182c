package server

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"time"

	"cloche/guest/internal/door"
	"cloche/guest/internal/wire"
)

const (
	doorProtocol  = "cloche-door"
	doorSwitching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + doorProtocol + "\r\n\r\n"
	upgradeTime   = 10 * time.Second
)

func (s *server) egressRoutes() map[string]handler {
	return map[string]handler{"PUT /v1/egress": s.configureEgress, "POST /v1/door": s.doorStream,
		"GET /v1/egress/attempts": s.egressAttempts}
}

func (s *server) configureEgress(w http.ResponseWriter, r *http.Request) error {
	var settings door.Settings
	if err := decode(w, r, &settings); err != nil {
		return err
	}
	s.Door.Open() // what listens is told to the processes
	if err := s.Door.Configure(settings); err != nil {
		return err
	}
	s.Manager.SetDoorEnv(s.Door.Environment())
	s.contexts.SessionChanged()
	return noContent(w)
}

func (s *server) egressAttempts(w http.ResponseWriter, _ *http.Request) error {
	s.Door.Open()
	answer := map[string]any{"attempts": s.Door.Attempts(), "listeners": s.Door.Listeners(), "attached": s.Door.Attached()}
	if err := s.Door.AuthorityError(); err != nil {
		answer["authority_error"] = wire.Text(err.Error())
	}
	reply(w, http.StatusOK, answer)
	return nil
}

// doorStream parks a stream for one connection, or with control=1 becomes the one on which the door and this end talk.
func (s *server) doorStream(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "control")
	control := q.flag("control", false)
	if q.err != nil {
		return q.err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), doorProtocol) {
		return wire.Invalid("a stream of the door needs Connection: Upgrade and Upgrade: %s", doorProtocol)
	}
	if !control {
		if err := s.Door.MayPark(); err != nil {
			return err
		}
	}
	stream, ahead, err := taken(w)
	if err != nil || stream == nil {
		return err
	}
	if control {
		s.Door.Control(stream, pending(ahead, stream), func() error { return switched(stream) })
		return nil
	}
	// the door speaks second on it
	if ahead.Buffered() > 0 || switched(stream) != nil || s.Door.Park(stream) != nil {
		_ = stream.Close()
	}
	return nil
}

// taken is the connection itself. A nil stream without an error is one that cannot be used.
func taken(w http.ResponseWriter) (door.Stream, *bufio.Reader, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	stream, ok := conn.(door.Stream)
	if !ok {
		_ = conn.Close()
		return nil, nil, nil
	}
	return stream, buffered.Reader, nil
}

func switched(stream door.Stream) error {
	_ = stream.SetDeadline(time.Now().Add(upgradeTime))
	if _, err := io.WriteString(stream, doorSwitching); err != nil {
		return err
	}
	return stream.SetDeadline(time.Time{})
}
