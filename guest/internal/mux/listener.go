package mux

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	shortest = 5 * time.Millisecond
	longest  = 100 * time.Millisecond
	// believed is how often in a row a port has to say that there is no host. Linux hears of hosts in another queue than
	// from them: after the first bytes of one it may still say, and only for a moment, that nobody is there.
	believed = 5
)

// ErrNoHost is why a stream cannot be opened while no host has said hello.
var ErrNoHost = errors.New("mux: no host is connected")

var errFlood = errors.New("mux: the host does not take the answers to what it asks")

// Listener is the guest's end of one pipe. It outlives its hosts: each hello begins anew.
type Listener struct {
	port io.ReadWriter
	in   decoder // of the reading goroutine; epoch and tag change under mu

	mu                 sync.Mutex
	out                outbox
	chunks             chunks
	live, closed       bool
	streams            map[uint32]*Conn
	arrived            []*Conn
	hosts, ours        int    // streams that are open, by who opened them
	lastHosts, nextOur uint32 // the newest id of the host's, the next one of ours
	acceptable         sync.Cond
	flushable          sync.Cond
}

// Listen serves a port: its Read returns 0 or io.EOF at once while no host is connected, its Write waits for one.
// Close closes the port too if it can be closed.
func Listen(port io.ReadWriter) *Listener {
	l := &Listener{port: waiting(port), in: newDecoder(), out: newOutbox(), streams: map[uint32]*Conn{}}
	l.acceptable.L, l.flushable.L = &l.mu, &l.mu
	go l.read()
	go l.flush()
	return l
}

// Accept returns the next stream that the host opened.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.arrived) == 0 {
		if l.closed {
			return nil, net.ErrClosed
		}
		l.acceptable.Wait()
	}
	next := l.arrived[0]
	n := copy(l.arrived, l.arrived[1:])
	l.arrived[n] = nil
	l.arrived = l.arrived[:n]
	return next, nil
}

// Open makes a stream to the host. Whether the host takes it, its first Read tells: ECONNREFUSED.
func (l *Listener) Open() (*Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.live {
		return nil, ErrNoHost
	}
	if l.ours >= maxStreams || l.nextOur == 0 {
		return nil, syscall.EMFILE
	}
	c := newConn(l, l.nextOur, firstWindow)
	l.nextOur += 2 // 0 when all are used up
	l.ours++
	l.streams[c.id] = c
	l.control(open, c.id, firstWindow)
	return c, nil
}

// Close ends every stream.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.endEpoch(net.ErrClosed)
	l.closed = true
	l.acceptable.Broadcast()
	l.flushable.Broadcast()
	l.mu.Unlock()
	if closer, ok := l.port.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "mux" }
func (addr) String() string  { return "host" }

// read is the goroutine that reads. It waits for nothing but the port.
func (l *Listener) read() {
	absent := 0 // how often one after the other the port has said that there is no host
	for {
		n, err := l.readPort(absent)
		if n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			absent = 0
		} else {
			absent = min(absent+1, believed)
		}
		if !l.heard(n, absent >= believed) || errors.Is(err, os.ErrClosed) {
			return
		}
	}
}

// readPort waits while a host is there, and a little while none is.
func (l *Listener) readPort(absent int) (int, error) {
	pause := min(shortest<<absent/2, longest)
	if waiter, ok := l.port.(readWaiter); ok && absent > 0 {
		n, err := waiter.ReadWaiting(l.in.space(), longest)
		if n == 0 && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
			time.Sleep(pause) // it fails instead of waiting
		}
		return n, err
	}
	if absent > 0 {
		time.Sleep(pause)
	}
	return l.port.Read(l.in.space())
}

// heard takes what a read brought. When the host is gone, whoever comes next begins with a hello.
func (l *Listener) heard(count int, gone bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if count > 0 {
		l.in.added(count)
		l.hearAll()
	} else if gone {
		l.endEpoch(syscall.ECONNRESET)
		l.in.forget()
	}
	return true
}

// backOff sleeps and returns the pause after this one.
func backOff(pause time.Duration) time.Duration {
	time.Sleep(pause)
	return min(2*pause, longest)
}

func (l *Listener) hearAll() {
	for {
		f, found := l.in.next()
		switch found {
		case incomplete:
			return
		case begun:
			l.begin()
		case broken:
			l.breakOff()
		case whole:
			if l.hear(f) != nil {
				l.in.broke()
				l.breakOff()
			}
		}
	}
}

func (l *Listener) begin() {
	l.endEpoch(syscall.ECONNRESET)
	l.live, l.lastHosts, l.nextOur = true, 0, 2
	l.out.pending = append(append(l.out.pending, answer...), l.in.epoch[:]...)
	l.flushable.Signal()
}

// breakOff ends an epoch that makes no sense any more, and says so with a header of zeros, which is no frame.
func (l *Listener) breakOff() {
	l.endEpoch(syscall.ECONNRESET)
	l.out.pending = append(l.out.pending, make([]byte, headerBytes)...)
	l.flushable.Signal()
}

// endEpoch gives up every stream, and what waits to be said on them.
func (l *Listener) endEpoch(why error) {
	l.live, l.hosts, l.ours = false, 0, 0
	l.out.pending = l.out.pending[:0]
	for _, c := range l.streams {
		c.inbox.clear(&l.chunks)
		c.breakOff(why)
	}
	clear(l.streams)
	clear(l.arrived)
	l.arrived = l.arrived[:0]
}

var _ net.Listener = (*Listener)(nil)
