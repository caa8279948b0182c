package mux

import (
	"net"
	"os"
)

// Wait returns when Read would: an idle stream needs no buffer of its reader.
func (c *Conn) Wait() error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	for {
		switch {
		case c.closed:
			return c.failed("read", net.ErrClosed)
		case c.readDeadline.passed():
			return c.failed("read", os.ErrDeadlineExceeded)
		case c.inbox.size > 0, c.ended, c.err != nil:
			return nil
		}
		c.readDeadline.wait(&c.readable)
	}
}
