package mux

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Conn is one stream, with the manners of a socket: what came before the other end gave it up can still be read.
type Conn struct {
	l       *Listener
	id      uint32
	writing sync.Mutex // one Write at a time

	// what follows belongs to l.mu
	inbox                       inbox
	mayCome, consumed           int
	mayGo                       uint64
	ended, finished             bool  // nothing more comes, nothing more goes
	closed                      bool  // by us
	err                         error // why it broke
	hasTurn                     bool  // may write, though others wait for room
	readable, writable          sync.Cond
	readDeadline, writeDeadline deadline
}

func newConn(l *Listener, id uint32, mayGo uint64) *Conn {
	c := &Conn{l: l, id: id, mayCome: firstWindow, mayGo: mayGo}
	c.readable.L, c.writable.L = &l.mu, &l.mu
	return c
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.failed("read", net.ErrClosed)
		case c.readDeadline.passed():
			return 0, c.failed("read", os.ErrDeadlineExceeded)
		case c.inbox.size > 0:
			return c.take(p), nil
		case c.ended:
			return 0, io.EOF
		case c.err != nil:
			return 0, c.failed("read", c.err)
		case len(p) == 0:
			return 0, nil
		}
		c.readDeadline.wait(&c.readable)
	}
}

func (c *Conn) take(p []byte) int {
	n := c.inbox.take(p, &c.l.chunks)
	if c.inbox.size > 0 {
		c.readable.Signal() // for another reader, if there is one
	}
	c.consumed += n
	if 2*c.consumed >= firstWindow && !c.ended && c.err == nil {
		c.mayCome += c.consumed
		c.l.control(window, c.id, uint32(c.consumed))
		c.consumed = 0
	}
	return n
}

// Write implements net.Conn. It returns when the bytes wait for the port, before the host has them.
func (c *Conn) Write(p []byte) (written int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	for {
		if err := c.cannotWrite(); err != nil {
			c.passTurn()
			return written, err
		}
		if written == len(p) {
			return written, nil
		}
		size := int(min(uint64(len(p)-written), c.mayGo, maxPayload))
		switch {
		case size == 0:
			c.passTurn()
			c.writeDeadline.wait(&c.writable)
		case c.l.hasRoom() && (c.hasTurn || len(c.l.out.waiting) == 0):
			c.l.payload(c.id, p[written:written+size])
			c.mayGo -= uint64(size)
			written += size
			c.passTurn()
		default:
			c.queue()
		}
	}
}

// queue waits for room, or for anything else that happens to the stream.
func (c *Conn) queue() {
	c.hasTurn = false
	c.l.out.waiting = append(c.l.out.waiting, c)
	c.writeDeadline.wait(&c.writable)
	if !c.hasTurn {
		c.l.out.leave(c)
	}
}

func (c *Conn) passTurn() {
	c.hasTurn = false
	c.l.wakeWriter()
}

func (c *Conn) cannotWrite() error {
	switch {
	case c.closed:
		return c.failed("write", net.ErrClosed)
	case c.writeDeadline.passed():
		return c.failed("write", os.ErrDeadlineExceeded)
	case c.err != nil:
		return c.failed("write", c.err)
	case c.finished:
		return c.failed("write", io.ErrClosedPipe)
	}
	return nil
}

func (c *Conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "mux", Source: addr{}, Addr: addr{}, Err: err}
}

// CloseWrite ends this direction; the host reads the end after what was written.
func (c *Conn) CloseWrite() error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	if c.err != nil {
		return c.failed("close", c.err)
	}
	c.finish()
	c.writable.Broadcast()
	return nil
}

func (c *Conn) finish() {
	if !c.finished {
		c.finished = true
		c.l.control(fin, c.id, 0)
		c.forgetIfOver()
	}
}

// Close gives the stream up; what was written still arrives.
func (c *Conn) Close() error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	c.closed = true
	c.inbox.clear(&c.l.chunks)
	if c.err == nil {
		c.finish()
		if c.l.streams[c.id] == c {
			c.l.control(reset, c.id, cancelled)
			c.forget()
		}
	}
	c.readable.Broadcast()
	c.writable.Broadcast()
	return nil
}

func (c *Conn) forgetIfOver() {
	if c.ended && c.finished {
		c.forget()
	}
}

func (c *Conn) forget() {
	delete(c.l.streams, c.id)
	if c.id%2 == 1 {
		c.l.hosts--
	} else {
		c.l.ours--
	}
}

func (c *Conn) breakOff(why error) {
	c.err = why
	c.readable.Broadcast()
	c.writable.Broadcast()
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return addr{} }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(at time.Time) error {
	_ = c.SetReadDeadline(at)
	return c.SetWriteDeadline(at)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(at time.Time) error {
	return c.setDeadline(&c.readDeadline, &c.readable, at)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(at time.Time) error {
	return c.setDeadline(&c.writeDeadline, &c.writable, at)
}

func (c *Conn) setDeadline(d *deadline, waiting *sync.Cond, at time.Time) error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	d.set(at)
	waiting.Broadcast()
	return nil
}

// deadline has a timer only while somebody waits: most are changed before they pass.
type deadline struct {
	at    time.Time
	timer *time.Timer
	armed bool
}

func (d *deadline) set(at time.Time) {
	d.at = at
	if d.armed {
		d.timer.Stop()
		d.armed = false
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// wait is cond.Wait, which the deadline ends too.
func (d *deadline) wait(cond *sync.Cond) {
	if !d.at.IsZero() && !d.armed {
		d.armed = true
		if d.timer == nil {
			d.timer = time.AfterFunc(time.Until(d.at), func() { d.fired(cond) })
		} else {
			d.timer.Reset(time.Until(d.at))
		}
	}
	cond.Wait()
}

func (d *deadline) fired(cond *sync.Cond) {
	cond.L.Lock()
	d.armed = false
	cond.L.Unlock()
	cond.Broadcast()
}

var _ net.Conn = (*Conn)(nil)
