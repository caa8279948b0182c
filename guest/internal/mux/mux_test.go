package mux

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestBytesGoBothWaysAndHalfCloseEndsOne(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	h.say(open, 1, firstWindow)
	c := b.accept()
	h.give(1, "hello")
	if got := read(t, c, 3) + read(t, c, 2); got != "hello" {
		t.Fatal(got)
	}
	h.say(fin, 1, 0)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
	fmt.Fprint(c, "good day")
	h.expect(data, 1, 8, "good day")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	h.expect(fin, 1, 0, "")
	if _, err := c.Write([]byte("x")); err == nil {
		t.Fatal("a write after the end")
	}
	if len(b.streams) != 0 || b.hosts != 0 {
		t.Fatal("a stream that is over is still kept")
	}
	_ = c.Close()
	if _, err := c.Read(nil); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

func TestWhatWasWrittenArrivesBeforeTheClose(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	h.say(open, 1, firstWindow)
	c := b.accept()
	fmt.Fprint(c, "bye")
	_ = c.Close()
	h.expect(data, 1, 3, "bye")
	h.expect(fin, 1, 0, "")
	h.expect(reset, 1, cancelled, "")
	h.give(1, "late")
	h.say(ping, 0, 7)
	h.expect(pong, 0, 7, "")
}

func TestWhatCameBeforeAResetCanBeRead(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	for _, ended := range []bool{true, false} {
		stream := uint32(1)
		if !ended {
			stream = 3
		}
		h.say(open, stream, firstWindow)
		h.give(stream, "last words")
		if ended {
			h.say(fin, stream, 0)
		}
		h.say(reset, stream, cancelled)
		h.say(ping, 0, stream)
		h.expect(pong, 0, stream, "")
		c := b.accept()
		if got := read(t, c, 10); got != "last words" {
			t.Fatal(got)
		}
		_, err := c.Read(make([]byte, 1))
		if ended && err != io.EOF || !ended && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	}
}

func TestASlowReaderStallsNobodyElse(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	h.say(open, 1, firstWindow)
	h.say(open, 3, firstWindow)
	slow, quick := b.accept(), b.accept()
	for range 4 {
		h.give(1, strings.Repeat("s", maxPayload))
	}
	for range 20 {
		h.give(3, strings.Repeat("q", maxPayload))
		h.give(3, strings.Repeat("q", maxPayload))
		read(t, quick, 2*maxPayload)
		h.expect(window, 3, 2*maxPayload, "")
	}
	if got := read(t, slow, 2*maxPayload); strings.Trim(got, "s") != "" {
		t.Fatal("mixed up")
	}
	h.expect(window, 1, 2*maxPayload, "")
}

func TestAWriterWaitsForTheWindow(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	h.say(open, 1, 10)
	c := b.accept()
	done := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte("0123456789abcdef"))
		done <- err
	}()
	h.expect(data, 1, 10, "0123456789")
	h.say(window, 1, 4)
	h.expect(data, 1, 4, "abcd")
	_ = c.SetWriteDeadline(time.Unix(1, 0))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond))
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(n, err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	h.say(window, 1, 5)
	fmt.Fprint(c, "again")
	h.expect(data, 1, 5, "again")
}

func TestReadDeadlinesEndAWaitAndLeaveTheStreamUsable(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	h.say(open, 1, 10)
	c := b.accept()
	_ = c.SetReadDeadline(time.Time{})
	got := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		got <- err
	}()
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	err := <-got
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Time{})
	h.give(1, "x")
	read(t, c, 1)
}

func TestManyWritersShareThePipe(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	const count, size = 100, 300_000
	for i := range uint32(count) {
		h.say(open, 2*i+1, size)
	}
	var writers sync.WaitGroup
	for range count {
		writers.Add(1)
		go func() {
			defer writers.Done()
			c := b.accept()
			p := bytes.Repeat([]byte{byte(c.id)}, size)
			if n, err := c.Write(p); n != size || err != nil {
				t.Error(n, err)
			}
			_ = c.Close()
		}()
	}
	got, over := map[uint32]int{}, 0
	for over < count {
		k, stream, _, p := h.hear()
		switch k {
		case data:
			if strings.Trim(p, string([]byte{byte(stream)})) != "" {
				t.Fatal("mixed up")
			}
			got[stream] += len(p)
		case reset:
			over++
			if got[stream] != size {
				t.Fatalf("%d bytes of stream %d", got[stream], stream)
			}
		}
	}
	writers.Wait()
}

func TestStreamsOfTheGuest(t *testing.T) {
	b := newBox(t)
	if _, err := b.Open(); err != ErrNoHost {
		t.Fatal(err)
	}
	h := b.connect()
	c, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "hi")
	h.expect(open, 2, firstWindow, "")
	h.expect(data, 2, 2, "hi")
	h.give(2, "ho")
	if got := read(t, c, 2); got != "ho" {
		t.Fatal(got)
	}
	other, _ := b.Open()
	h.expect(open, 4, firstWindow, "")
	h.say(reset, 4, refused)
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
}

func TestMoreStreamsThanAllowedAreRefused(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	for i := range uint32(maxStreams) {
		h.say(open, 2*i+1, 1)
	}
	h.say(open, 2*maxStreams+1, 1)
	h.expect(reset, 2*maxStreams+1, refused, "")
	h.give(2*maxStreams+1, "late")
	_ = b.accept().Close()
	h.expect(fin, 1, 0, "")
	h.expect(reset, 1, cancelled, "")
	h.say(open, 2*maxStreams+3, 1)
	h.say(ping, 0, 1)
	h.expect(pong, 0, 1, "")
}

func TestAHostThatGoesEndsEveryStreamAtOnce(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	h.say(open, 1, 10)
	c := b.accept()
	_ = c.SetDeadline(time.Time{})
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 1<<20))
		written <- err
	}()
	h.expect(data, 1, 10, strings.Repeat("\x00", 10))
	_ = h.conn.Close()
	if err := <-written; !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	again := b.connect()
	again.say(open, 1, 10)
	again.give(1, "new")
	if got := read(t, b.accept(), 3); got != "new" {
		t.Fatal(got)
	}
	_ = c.Close()
	again.say(ping, 0, 3)
	again.expect(pong, 0, 3, "")
}

// A host that dies leaves part of what it said; the hello of the next one ends it wherever that was.
func TestANewHelloAtAnyByte(t *testing.T) {
	b := newBox(t)
	h := b.dial()
	fake := string(helloOf([]byte("attacker attack!")))
	for cut := 0; cut < 70_000; cut = cut*5/4 + 1 {
		h.begin(newEpoch())
		said := appendFrame(nil, open, 1, firstWindow, h.tag)
		said = append(said, h.dataFrame(1, (strings.Repeat("o", 20) + fake[65_000:])[:600])...)
		said = append(said, h.dataFrame(1, strings.Repeat("o", maxPayload))...)
		h.send(said[:cut])
		h.begin(newEpoch())
		h.say(open, 1, firstWindow)
		h.give(1, "new")
		for { // streams of the host before may still wait to be accepted
			c := b.accept()
			p := make([]byte, 3)
			if _, err := io.ReadFull(c, p); err == nil && string(p) == "new" {
				break
			} else if err == nil && string(p) != "ooo" {
				t.Fatalf("%q", p)
			}
		}
	}
}

func TestWhatIsWrongEndsTheEpochAndAHelloMendsIt(t *testing.T) {
	b := newBox(t)
	h := b.dial()
	tag := func(f []byte) []byte { return f }
	for name, wrong := range map[string]func() []byte{
		"kind":      func() []byte { return appendFrame(nil, 9, 0, 0, h.tag) },
		"padding":   func() []byte { f := appendFrame(nil, ping, 0, 0, h.tag); f[2] = 1; return f },
		"tag":       func() []byte { return appendFrame(nil, ping, 0, 0, h.tag+1) },
		"empty":     func() []byte { return appendFrame(nil, data, 1, 0, h.tag) },
		"large":     func() []byte { return appendFrame(nil, data, 1, maxPayload+1, h.tag) },
		"half":      func() []byte { f := h.dataFrame(1, "abc"); return append(f[:len(f)-4], 0, 0, 0, 0) },
		"no stream": func() []byte { return h.dataFrame(3, "abc") },
		"zero":      func() []byte { return h.dataFrame(0, "abc") },
		"ours":      func() []byte { return h.dataFrame(2, "abc") },
		"two ends": func() []byte {
			return tag(append(appendFrame(nil, fin, 1, 0, h.tag), appendFrame(nil, fin, 1, 0, h.tag)...))
		},
		"after end": func() []byte { return append(appendFrame(nil, fin, 1, 0, h.tag), h.dataFrame(1, "x")...) },
		"even":      func() []byte { return appendFrame(nil, open, 2, 0, h.tag) },
		"again":     func() []byte { return appendFrame(nil, open, 1, 0, h.tag) },
		"measure":   func() []byte { return appendFrame(nil, window, 1, maxWindow, h.tag) },
		"ping":      func() []byte { return appendFrame(nil, ping, 1, 0, h.tag) },
		"too much":  func() []byte { return bytes.Repeat(h.dataFrame(1, strings.Repeat("x", maxPayload)), 5) },
		"nonsense":  func() []byte { return []byte("GET / HTTP/1.1\r\nHost: guest\r\n\r\n") },
		"flood open": func() []byte {
			return append(appendFrame(nil, open, 3, 0, h.tag), appendFrame(nil, open, 3, 0, h.tag)...)
		},
	} {
		h.begin(newEpoch())
		h.say(open, 1, firstWindow)
		h.send(wrong())
		h.expectBroken()
		b.mu.Lock()
		if b.live || len(b.streams) > 0 || len(b.out.pending) > 0 {
			t.Error(name)
		}
		b.mu.Unlock()
	}
}

func TestClosingEndsEverything(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	h.say(open, 1, 10)
	c := b.accept()
	_ = c.SetDeadline(time.Time{})
	accepting := make(chan error, 1)
	go func() {
		_, err := b.Accept()
		accepting <- err
	}()
	_ = b.Close()
	if err := <-accepting; !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("a read of a listener that is closed")
	}
}
