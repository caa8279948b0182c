package mux

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"cloche/guest/internal/mux/muxtest"
)

const patience = 20 * time.Second

// box is a listener on a port to which hosts connect.
type box struct {
	t    *testing.T
	path string
	port *muxtest.Port
	*Listener
}

func newBox(t *testing.T) *box {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, path: path, port: muxtest.NewPort(listener)}
	b.Listener = Listen(b.port)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (b *box) accept() *Conn {
	b.t.Helper()
	c, err := b.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*Conn)
}

// host speaks frames by hand.
type host struct {
	t    *testing.T
	conn net.Conn
	tag  uint32
}

var epochs byte

func newEpoch() []byte {
	epochs++
	return append([]byte{1, 2, 3, epochs}, bytes.Repeat([]byte{epochs}, 12)...)
}

func helloOf(epoch []byte) []byte {
	return append(append(make([]byte, 65_556), hello...), epoch...)
}

// connect says hello and waits for the answer.
func (b *box) connect() *host {
	b.t.Helper()
	h, epoch := b.dial(), newEpoch()
	h.begin(epoch)
	return h
}

func (b *box) dial() *host {
	b.t.Helper()
	conn, err := net.Dial("unix", b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	b.t.Cleanup(func() { _ = conn.Close() })
	return &host{t: b.t, conn: conn}
}

func (h *host) begin(epoch []byte) {
	h.t.Helper()
	h.tag = binary.BigEndian.Uint32(epoch)
	h.send(helloOf(epoch))
	wanted := append([]byte(answer), epoch...)
	var seen []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(seen, wanted) {
		if _, err := io.ReadFull(h.conn, one); err != nil {
			h.t.Fatalf("no answer in %d bytes: %v", len(seen), err)
		}
		seen = append(seen, one...)
	}
}

func (h *host) send(p []byte) {
	h.t.Helper()
	if _, err := h.conn.Write(p); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) say(k kind, stream, value uint32) {
	h.t.Helper()
	h.send(appendFrame(nil, k, stream, value, h.tag))
}

func (h *host) give(stream uint32, p string) {
	h.t.Helper()
	h.send(h.dataFrame(stream, p))
}

func (h *host) dataFrame(stream uint32, p string) []byte {
	f := append(appendFrame(nil, data, stream, uint32(len(p)), h.tag), p...)
	return binary.BigEndian.AppendUint32(f, h.tag)
}

// hear returns the next frame, which must be whole.
func (h *host) hear() (kind, uint32, uint32, string) {
	h.t.Helper()
	var head [headerBytes]byte
	if _, err := io.ReadFull(h.conn, head[:]); err != nil {
		h.t.Fatal(err)
	}
	value := binary.BigEndian.Uint32(head[8:])
	if head[0] == 0 || binary.BigEndian.Uint32(head[12:]) != h.tag {
		h.t.Fatalf("not a frame: %x", head)
	}
	var p []byte
	if kind(head[0]) == data {
		p = make([]byte, value+tagBytes)
		if _, err := io.ReadFull(h.conn, p); err != nil {
			h.t.Fatal(err)
		}
		if binary.BigEndian.Uint32(p[value:]) != h.tag {
			h.t.Fatal("a payload without its tag")
		}
		p = p[:value]
	}
	return kind(head[0]), binary.BigEndian.Uint32(head[4:]), value, string(p)
}

func (h *host) expect(k kind, stream, value uint32, p string) {
	h.t.Helper()
	gotKind, gotStream, gotValue, gotP := h.hear()
	if gotKind != k || gotStream != stream || gotValue != value || gotP != p {
		h.t.Fatalf("got %d %d %d %.40q, not %d %d %d %.40q", gotKind, gotStream, gotValue, gotP, k, stream, value, p)
	}
}

func (h *host) expectBroken() {
	h.t.Helper()
	var head [headerBytes]byte
	for {
		if _, err := io.ReadFull(h.conn, head[:]); err != nil {
			h.t.Fatal(err)
		}
		if head == [headerBytes]byte{} {
			return
		}
	}
}

func read(t *testing.T, c net.Conn, count int) string {
	t.Helper()
	p := make([]byte, count)
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatal(err)
	}
	return string(p)
}
