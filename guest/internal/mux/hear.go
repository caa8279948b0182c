package mux

import (
	"errors"
	"syscall"
)

var errProtocol = errors.New("mux: the host breaks the rules")

// hear acts on one frame. An error ends the epoch.
func (l *Listener) hear(f frame) error {
	switch f.kind {
	case open:
		return l.hearOpen(f.stream, f.value)
	case ping, pong:
		return l.hearPing(f)
	}
	c := l.streams[f.stream]
	if c == nil {
		return l.hearLate(f.stream)
	}
	switch f.kind {
	case data:
		return c.hearData(f.payload)
	case window:
		c.mayGo += uint64(f.value)
		if c.mayGo > maxWindow {
			return errProtocol
		}
		c.writable.Broadcast()
	case fin:
		if c.ended {
			return errProtocol
		}
		c.ended = true
		c.forgetIfOver()
		c.readable.Broadcast()
	case reset:
		c.forget()
		c.breakOff(resetReason(f.value))
	}
	return nil
}

func resetReason(value uint32) error {
	if value == refused {
		return syscall.ECONNREFUSED
	}
	return syscall.ECONNRESET
}

func (l *Listener) hearOpen(stream, mayGo uint32) error {
	if stream%2 == 0 || stream <= l.lastHosts {
		return errProtocol
	}
	l.lastHosts = stream
	if l.hosts >= maxStreams || len(l.arrived) >= maxStreams {
		return l.answer(reset, stream, refused)
	}
	c := newConn(l, stream, uint64(mayGo))
	l.hosts++
	l.streams[stream] = c
	l.arrived = append(l.arrived, c)
	l.acceptable.Signal()
	return nil
}

func (l *Listener) hearPing(f frame) error {
	if f.stream != 0 {
		return errProtocol
	}
	if f.kind == ping {
		return l.answer(pong, 0, f.value)
	}
	return nil
}

func (l *Listener) answer(k kind, stream, value uint32) error {
	if len(l.out.pending) > maxUntaken {
		return errFlood
	}
	l.control(k, stream, value)
	return nil
}

// hearLate drops what was under way when a stream was given up. A stream that never was is a mistake.
func (l *Listener) hearLate(stream uint32) error {
	last := l.nextOur - 2
	if stream%2 == 1 {
		last = l.lastHosts
	}
	if stream == 0 || stream > last {
		return errProtocol
	}
	return nil
}

func (c *Conn) hearData(p []byte) error {
	if c.ended || len(p) > c.mayCome {
		return errProtocol
	}
	c.mayCome -= len(p)
	c.inbox.add(p, &c.l.chunks)
	c.readable.Signal()
	return nil
}
