package mux

import (
	"bytes"
	"io"
	"testing"
)

// feed is a port that brings given bytes in pieces and then nobody.
type feed struct {
	left  []byte
	piece int
	done  chan struct{}
	said  bytes.Buffer
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.left) == 0 {
		select {
		case <-f.done:
		default:
			close(f.done)
		}
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), f.piece)], f.left)
	f.left = f.left[n:]
	return n, nil
}

func (f *feed) Write(p []byte) (int, error) { return f.said.Write(p) }

// FuzzHostileBytes: nothing that a host could say panics or takes memory without bound.
func FuzzHostileBytes(f *testing.F) {
	epoch := []byte("\x01\x02\x03\x04 the epoch..")
	tag := uint32(0x01020304)
	add := func(frames ...[]byte) { f.Add(append(helloOf(epoch), bytes.Join(frames, nil)...), uint16(1000)) }
	h := host{tag: tag}
	add()
	add(appendFrame(nil, open, 1, 5, tag), h.dataFrame(1, "hi"), appendFrame(nil, fin, 1, 0, tag))
	add(appendFrame(nil, open, 1, 5, tag), appendFrame(nil, reset, 1, 0, tag), h.dataFrame(1, "late"))
	add(appendFrame(nil, ping, 0, 1, tag), appendFrame(nil, window, 1, 1, tag))
	add(h.dataFrame(1, "x")[:18], helloOf(epoch), appendFrame(nil, open, 1, 5, tag))
	f.Fuzz(func(t *testing.T, content []byte, piece uint16) {
		port := &feed{left: content, piece: int(piece) + 1, done: make(chan struct{})}
		l := Listen(port)
		<-port.done
		l.mu.Lock()
		if len(l.streams) > 2*maxStreams || len(l.arrived) > maxStreams || len(l.out.pending) > maxUntaken+outboxSize {
			t.Error("out of bounds")
		}
		l.mu.Unlock()
		_ = l.Close()
	})
}

// FuzzDecoder: however the bytes are cut, the frames are the same.
func FuzzDecoder(f *testing.F) {
	tag := uint32(0x01020304)
	h := host{tag: tag}
	frames := append(h.dataFrame(1, "some bytes"), appendFrame(nil, ping, 0, 1, tag)...)
	f.Add(frames, uint16(1))
	f.Add(append(frames, bytes.Repeat(h.dataFrame(3, string(make([]byte, maxPayload))), 3)...), uint16(40_000))
	f.Add(append(frames[:20:20], frames...), uint16(7))
	f.Fuzz(func(t *testing.T, content []byte, piece uint16) {
		content = append([]byte(hello+"\x01\x02\x03\x04 the epoch.."), content...)
		if once, cut := decoded(content, len(content)), decoded(content, int(piece)+1); !bytes.Equal(once, cut) {
			t.Errorf("%x in one piece, %x in pieces of %d", once, cut, piece+1)
		}
	})
}

func decoded(content []byte, piece int) (found []byte) {
	d := newDecoder()
	for len(content) > 0 {
		space := d.space()
		n := copy(space[:min(len(space), piece)], content)
		d.added(n)
		content = content[n:]
		for {
			f, v := d.next()
			if v == incomplete {
				break
			}
			found = append(append(found, byte(v), byte(f.kind)), f.payload...)
		}
	}
	return found
}
