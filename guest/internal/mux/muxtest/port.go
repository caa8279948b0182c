// Package muxtest has what tests need in place of a virtio port.
package muxtest

import (
	"io"
	"net"
	"sync"
)

// Port behaves as a virtio port in the guest whose other end is a chardev's listening socket: one host at a time, and
// while there is none, a read returns at once and a write waits.
type Port struct {
	listener net.Listener
	mu       sync.Mutex
	changed  sync.Cond
	host     net.Conn // nil: not connected
	closed   bool
}

// NewPort takes hosts from the listener, which it owns.
func NewPort(listener net.Listener) *Port {
	p := &Port{listener: listener}
	p.changed.L = &p.mu
	go p.serve()
	return p
}

func (p *Port) serve() {
	for {
		host, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.closed {
			host.Close()
		} else {
			p.host = host
		}
		p.changed.Broadcast()
		for p.host == host {
			p.changed.Wait()
		}
		p.mu.Unlock()
	}
}

// Connected tells whether a host is there.
func (p *Port) Connected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.host != nil
}

// Read waits for bytes of the host that is there.
func (p *Port) Read(b []byte) (int, error) {
	p.mu.Lock()
	host := p.host
	p.mu.Unlock()
	if host == nil {
		return 0, io.EOF
	}
	n, err := host.Read(b)
	if err != nil {
		p.drop(host)
		err = io.EOF
	}
	return n, err
}

// Write waits for a host, and for another one when that goes away before it has taken everything.
func (p *Port) Write(b []byte) (written int, err error) {
	for written < len(b) {
		host := p.wait()
		if host == nil {
			return written, net.ErrClosed
		}
		n, err := host.Write(b[written:])
		written += n
		if err != nil {
			p.drop(host)
		}
	}
	return written, nil
}

func (p *Port) wait() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.host == nil && !p.closed {
		p.changed.Wait()
	}
	return p.host
}

func (p *Port) drop(host net.Conn) {
	_ = host.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.host == host {
		p.host = nil
		p.changed.Broadcast()
	}
}

// Close ends the port and its listener.
func (p *Port) Close() error {
	p.mu.Lock()
	p.closed = true
	host := p.host
	p.host = nil
	p.changed.Broadcast()
	p.mu.Unlock()
	if host != nil {
		_ = host.Close()
	}
	return p.listener.Close()
}
