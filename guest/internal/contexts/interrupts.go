package contexts

import (
	"time"

	"cloche/guest/internal/wire"
)

// How code is made to stop: asked once or more often, and killed when its time is over.

// interrupt stops x if it runs and takes it out of the queue if it waits.
func (c *Context) interrupt(x *Execution) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == x && x != nil {
		x.asked = true
		c.press(x, 0)
		return nil
	}
	for i, waiting := range c.queue {
		if waiting == x {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			go x.finish("interrupted", true, "")
			return nil
		}
	}
	return wire.Errorf("wrong_state", "the execution has ended")
}

// press sends the signal, under the lock, so that it can never reach what runs next. A shell or a
// program that was about to start a command when it came waits for that command, which did not get it: so these are
// asked again.
func (c *Context) press(x *Execution, before int) {
	c.link.interrupt(x.number)
	if c.language.misses && before < pressedMost {
		c.pressLater(x, pressedEvery, before+1)
	}
}

func (c *Context) pressLater(x *Execution, after time.Duration, before int) {
	time.AfterFunc(after, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running == x {
			c.press(x, before)
		}
	})
}

// Interrupt stops what runs. The error is `wrong_state` when nothing does.
func (c *Context) Interrupt() error {
	c.mu.Lock()
	x := c.running
	c.mu.Unlock()
	if x == nil {
		return wire.Errorf("wrong_state", "nothing runs in the context")
	}
	return c.interrupt(x)
}

// expire is the timeout of x: it is asked to stop, and killed with its context if it does not.
func (c *Context) expire(x *Execution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != x || x.expired {
		return
	}
	x.expired = true
	c.press(x, 0)
	x.timer = time.AfterFunc(graceAfter, func() { c.killFor(x) })
}

func (c *Context) killFor(x *Execution) {
	c.mu.Lock()
	l := c.link
	late := c.running == x
	if late {
		c.end = "timeout"
	}
	c.mu.Unlock()
	if late {
		x.log.hurry()
		l.process.Kill()
	}
}
