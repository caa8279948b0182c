package mux

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"time"
)

// latePort says what is in reads, one after the other; nothing is what a kernel says that knows of no host.
type latePort struct {
	reads  chan []byte
	writes chan []byte
}

func (p latePort) Read(b []byte) (int, error) {
	next, open := <-p.reads
	if !open || len(next) == 0 {
		return 0, io.EOF
	}
	return copy(b, next), nil
}

func (p latePort) Write(b []byte) (int, error) {
	p.writes <- bytes.Clone(b)
	return len(b), nil
}

func (p latePort) hear(t *testing.T, wanted []byte) {
	t.Helper()
	late := time.After(patience)
	for seen := []byte{}; !bytes.Contains(seen, wanted); {
		select {
		case more := <-p.writes:
			seen = append(seen, more...)
		case <-late:
			t.Fatalf("%q instead of %q", seen, wanted)
		}
	}
}

// In a machine the news that a host has come may be read after what that host has said first: it is not forgotten, in
// the middle of its hello or behind it.
func TestAHostThatIsNoticedAfterItsHello(t *testing.T) {
	port := latePort{reads: make(chan []byte), writes: make(chan []byte, 8)}
	l := Listen(port)
	defer l.Close()
	defer close(port.reads)
	for range 3 {
		epoch := newEpoch()
		h := host{t: t, tag: binary.BigEndian.Uint32(epoch)}
		for left := helloOf(epoch); len(left) > 0; left = left[min(4096, len(left)):] {
			port.reads <- left[:min(4096, len(left))]
			port.reads <- nil
		}
		port.hear(t, append([]byte(answer), epoch...))
		for range believed - 2 { // the hello ended with one
			port.reads <- nil
		}
		port.reads <- append(appendFrame(nil, open, 1, firstWindow, h.tag), h.dataFrame(1, "new")...)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, c, 3); got != "new" {
			t.Fatal(got)
		}
	}
}

func TestAHostThatIsNotThereIsBelievedToBeGone(t *testing.T) {
	port := latePort{reads: make(chan []byte), writes: make(chan []byte, 8)}
	l := Listen(port)
	defer l.Close()
	defer close(port.reads)
	epoch := newEpoch()
	port.reads <- helloOf(epoch)
	port.hear(t, append([]byte(answer), epoch...))
	if _, err := l.Open(); err != nil {
		t.Fatal(err)
	}
	for range believed + 1 { // the last one is asked for when the one before has been acted on
		port.reads <- nil
	}
	if _, err := l.Open(); err != ErrNoHost {
		t.Fatal(err)
	}
}
