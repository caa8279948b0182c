package server

import (
	"bufio"
	"io"
	"net"
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
	reply(w, http.StatusOK, map[string]any{"attempts": s.Door.Attempts(), "listeners": s.Door.Listeners(),
		"attached": s.Door.Attached()})
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
	stream, ahead, err := upgrade(w, doorSwitching)
	if err != nil || stream == nil {
		return err
	}
	if control {
		s.Door.Control(stream, pending(ahead, stream))
		return nil
	}
	// the door speaks second on it
	if ahead.Buffered() > 0 || s.Door.Park(stream) != nil {
		_ = stream.Close()
	}
	return nil
}

// upgrade answers 101. A nil stream without an error is one that has gone.
func upgrade(w http.ResponseWriter, answer string) (door.Stream, *bufio.Reader, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	stream, ok := conn.(door.Stream)
	_ = conn.SetDeadline(time.Now().Add(upgradeTime))
	if ok {
		_, err = io.WriteString(conn, answer)
	}
	if !ok || err != nil {
		_ = conn.Close()
		return nil, nil, nil
	}
	_ = conn.SetDeadline(time.Time{})
	return stream, buffered.Reader, nil
}

var _ net.Conn = door.Stream(nil)
