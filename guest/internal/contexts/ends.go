package contexts

import (
	"fmt"

	"cloche/guest/internal/procs"
)

// Why an interpreter has gone, what that means for what ran in it, and how it is replaced.

// ended implements listener: nothing more comes from l.
func (c *Context) ended(l *link, end procs.HiddenEnd) {
	c.mu.Lock()
	if l.gone = &end; c.link != l {
		c.mu.Unlock()
		return
	}
	reason := c.conclude(end)
	x, waiting := c.running, c.queue
	c.running, c.queue = nil, nil
	c.mu.Unlock()
	if x != nil {
		x.lose(l, reason, end)
	}
	endWaiting(waiting)
	c.manager.forgetOldest()
}

// endWaiting is for what was queued in a context that has ended.
func endWaiting(waiting []*Execution) {
	for _, next := range waiting {
		next.finish("context_ended", false, "")
	}
}

// conclude records why the interpreter has gone. The lock is held.
func (c *Context) conclude(end procs.HiddenEnd) (reason string) {
	c.state, c.loose, c.looseSize = "ended", nil, 0
	switch {
	case c.end == restarted:
		c.state, c.end = "starting", ""
		return restarted
	case c.end == "timeout":
		c.limit = "timeout"
	case c.end == "" && end.Limit == "memory":
		c.end, c.limit = "limit", end.Limit
	case c.end == "":
		c.end = "died"
	}
	return c.end
}

// lose ends an execution whose interpreter has gone.
func (x *Execution) lose(l *link, reason string, end procs.HiddenEnd) {
	status, limit := "context_ended", ""
	switch reason {
	case "timeout":
		status, limit = "timeout", "timeout"
	case "limit":
		limit = end.Limit
		x.log.append(true, errorEvent("ContextEnded", "the interpreter was killed: the sandbox ran out of memory", ""))
	case "died":
		x.log.append(true, errorEvent("ContextEnded", howItDied(l, end.Code), ""))
	}
	x.finish(status, false, limit)
}

func howItDied(l *link, code int) string {
	l.mu.Lock()
	broken := l.broken
	l.mu.Unlock()
	if broken {
		return "the code closed the descriptors of its interpreter, or wrote into them: the state of the context is gone"
	}
	if code > 128 && code < 128+65 {
		return fmt.Sprintf("the interpreter died of signal %d: the state of the context is gone", code-128)
	}
	return fmt.Sprintf("the interpreter exited with status %d: the state of the context is gone", code)
}

// Restart replaces the interpreter. What runs or waits ends with `context_ended`.
func (c *Context) Restart() error {
	c.changing.Lock()
	defer c.changing.Unlock()
	if err := c.manager.reserve(c); err != nil {
		return err
	}
	c.stop(restarted)
	c.mu.Lock()
	c.state, c.end, c.limit = "starting", "", ""
	c.mu.Unlock()
	err := c.start()
	if err != nil {
		c.give("died")
	}
	return err
}

// give ends a context that has no interpreter.
func (c *Context) give(reason string) {
	c.mu.Lock()
	c.state, c.end = "ended", reason
	waiting := c.queue
	c.queue = nil
	c.mu.Unlock()
	endWaiting(waiting)
}

// stop kills the session with everything in it, for a reason, and waits until that is told.
func (c *Context) stop(reason string) {
	c.mu.Lock()
	l, x := c.link, c.running
	if c.state != "ended" {
		c.end = reason
	}
	c.mu.Unlock()
	if x != nil {
		x.log.hurry()
	}
	if l != nil {
		l.stop()
	}
}
