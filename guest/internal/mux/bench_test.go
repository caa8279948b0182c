package mux

import (
	"bytes"
	"io"
	"testing"
)

// loop brings the same bytes again and again.
type loop struct {
	head, body []byte
	at, rounds int
}

func (l *loop) Read(p []byte) (int, error) {
	if len(l.head) > 0 {
		n := copy(p, l.head)
		l.head = l.head[n:]
		return n, nil
	}
	if l.rounds == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 65_536)], l.body[l.at:])
	if l.at += n; l.at == len(l.body) {
		l.at = 0
		l.rounds--
	}
	return n, nil
}

// BenchmarkFrames is what taking one frame apart costs, without the port and without a reader.
func BenchmarkFrames(b *testing.B) {
	for name, size := range map[string]int{"small": 100, "large": maxPayload} {
		b.Run(name, func(b *testing.B) {
			h := host{tag: 0x01020304}
			l := &Listener{in: newDecoder(), out: newOutbox(), streams: map[uint32]*Conn{}}
			l.acceptable.L, l.flushable.L = &l.mu, &l.mu
			source := &loop{head: helloOf([]byte("\x01\x02\x03\x04 the epoch..")), body: h.dataFrame(1, string(make([]byte, size)))}
			source.head = append(source.head, appendFrame(nil, open, 1, firstWindow, h.tag)...)
			source.rounds = b.N
			sink := make([]byte, 32<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for {
				n, err := source.Read(l.in.space())
				if err != nil {
					return
				}
				l.mu.Lock()
				l.in.added(n)
				l.hearAll()
				c := l.streams[1]
				for c != nil && c.inbox.size > 0 {
					c.take(sink)
				}
				l.out.pending = l.out.pending[:0]
				l.mu.Unlock()
			}
		})
	}
}

type null struct{ block chan struct{} }

func (n null) Read([]byte) (int, error)    { <-n.block; return 0, io.EOF }
func (n null) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkWrites is what sending one payload costs, without the port.
func BenchmarkWrites(b *testing.B) {
	for name, size := range map[string]int{"small": 100, "large": maxPayload} {
		b.Run(name, func(b *testing.B) {
			port := null{make(chan struct{})}
			l := Listen(port)
			defer close(port.block)
			l.mu.Lock()
			l.live, l.nextOur = true, 2
			l.mu.Unlock()
			c, _ := l.Open()
			c.mayGo = 1 << 62
			p := bytes.Repeat([]byte("x"), size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := c.Write(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
