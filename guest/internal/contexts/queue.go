package contexts

import "cloche/guest/internal/wire"

// Executions of a context run in the order of their arrival.

// submit queues x and begins it when nothing else runs.
func (c *Context) submit(x *Execution) error {
	c.mu.Lock()
	if c.state == "ended" {
		c.mu.Unlock()
		return wire.Errorf("wrong_state", "the context has ended").With("state", "ended")
	}
	ahead := len(c.queue)
	if c.running != nil {
		ahead++
	}
	x.log.append(true, acceptedEvent(x, c.id, c.language.name, ahead))
	c.queue = append(c.queue, x)
	next, l := c.advance(), c.link
	c.mu.Unlock()
	if len(next) > 0 {
		l.send(next)
	}
	return nil
}

// advance begins what is first in the queue and returns what to send for it. The lock is held.
func (c *Context) advance() (message []byte) {
	for c.running == nil && c.state == "idle" && len(c.queue) > 0 {
		x := c.queue[0]
		c.queue = c.queue[1:]
		c.executions++
		x.begin(c.executions)
		for _, piece := range c.loose {
			x.log.append(true, outputEvent(streams[piece.stream], piece.data))
		}
		c.loose, c.looseSize = nil, 0
		if problem := c.language.refuses(string(x.spec.Code)); problem != "" {
			x.log.append(true, errorEvent("SyntaxError", problem, ""))
			x.finish("error", true, "")
			continue
		}
		c.running = x
		message = append(c.newEnv(), c.language.code(x.number, string(x.spec.Code))...)
	}
	return message
}

// newEnv is what brings the interpreter up to the session that is now. The lock is held.
func (c *Context) newEnv() []byte {
	generation := c.manager.generation()
	if generation == c.session {
		return nil
	}
	c.session = generation
	env, cwd, _ := c.manager.procs.HiddenEnv(c.hiddenSpec())
	message := c.language.env(difference(c.env, env))
	if c.spec.Cwd == nil && cwd != c.cwd && cwd != "" {
		message = append(message, c.language.dir(cwd)...)
		c.cwd = cwd
	}
	c.env = env
	return message
}
