package door

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

// outer is the host's end of a door, on socketpairs.
type outer struct {
	t       *testing.T
	d       *Door
	control *net.UnixConn
	lines   *bufio.Reader
}

func newDoor(t *testing.T) *Door {
	t.Helper()
	d := New(Config{Ports: &Ports{}, Redirect: true, DiagFD: -1, Trust: Trust{t.TempDir()}})
	d.Open()
	t.Cleanup(d.Close)
	for _, listener := range d.Listeners() {
		if listener.Error != "" {
			t.Fatalf("%+v", listener)
		}
	}
	return d
}

func openDoor(t *testing.T) *Door {
	t.Helper()
	d := newDoor(t)
	if err := d.Configure(Settings{Mode: "open", ProxyEnv: true}); err != nil {
		t.Fatal(err)
	}
	return d
}

func attach(t *testing.T, d *Door) *outer {
	t.Helper()
	inner, host := streams(t)
	before := d.current()
	go d.Control(inner, inner, func() error { return nil })
	for d.current() == before {
		time.Sleep(time.Millisecond)
	}
	o := &outer{t, d, host, bufio.NewReader(host)}
	t.Cleanup(func() { _ = host.Close() })
	return o
}

// attached is the host's end of a door that is open.
func attached(t *testing.T) *outer {
	t.Helper()
	return attach(t, openDoor(t))
}

// redirected is a connection of the code to this place, and the stream on which the host hears of it.
func (o *outer) redirected(place string) (stream *net.UnixConn, code *net.TCPConn) {
	o.t.Helper()
	redirectTo(o.d, place)
	stream = o.park()
	return stream, dial(o.t, o.d, "redirect")
}

func (d *Door) current() *control {
	d.control.mu.Lock()
	defer d.control.mu.Unlock()
	return d.control.now
}

func streams(t *testing.T) (inner, host *net.UnixConn) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var both [2]*net.UnixConn
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		both[i] = conn.(*net.UnixConn)
	}
	t.Cleanup(func() { _ = both[1].Close() })
	_ = both[1].SetDeadline(time.Now().Add(patience))
	return both[0], both[1]
}

func (o *outer) park() *net.UnixConn {
	o.t.Helper()
	inner, host := streams(o.t)
	if err := o.d.Park(inner); err != nil {
		o.t.Fatal(err)
	}
	return host
}

// line is the next one of the guest's.
func (o *outer) line() (said asked) {
	o.t.Helper()
	_ = o.control.SetReadDeadline(time.Now().Add(patience))
	raw, err := o.lines.ReadBytes('\n')
	if err != nil {
		o.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		o.t.Fatal(err)
	}
	return said
}

func (o *outer) say(line string) {
	o.t.Helper()
	if _, err := o.control.Write([]byte(line + "\n")); err != nil {
		o.t.Fatal(err)
	}
}

// answerLookups gives every name the same verdict, for as long as the control stream lasts.
func (o *outer) answerLookups(verdict string) {
	go func() {
		for {
			raw, err := o.lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var said asked
			_ = json.Unmarshal(raw, &said)
			if said.Op == "resolve" {
				answer, _ := json.Marshal(map[string]any{"op": "resolved", "id": said.ID, "verdict": verdict})
				_, _ = o.control.Write(append(answer, '\n'))
			}
		}
	}()
}

func readHead(t *testing.T, stream net.Conn) (h head) {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(stream, size[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(stream, body); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func sendVerdict(t *testing.T, stream net.Conn, body string) {
	t.Helper()
	if _, err := stream.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		t.Fatal(err)
	}
}

// mustBeReset: so early a reset may come before the connection is known to be there.
func mustBeReset(t *testing.T, d *Door, listener string) {
	t.Helper()
	conn, err := net.Dial("tcp", d.address(listener))
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mustReset(t, conn)
}

func dial(t *testing.T, d *Door, listener string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", d.address(listener))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

// redirectTo has every connection to the redirect port be one to this place.
func redirectTo(d *Door, place string) {
	d.original = func(*net.TCPConn) (destination, error) { return netip.ParseAddrPort(place) }
}

func mustReset(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("not reset: %v", err)
	}
}

func mustSay(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

func mustEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("%d, %v", n, err)
	}
}

func mustBreak(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("not broken: %v", err)
	}
}
