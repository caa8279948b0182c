package contexts

// What an interpreter says becomes events of what runs, or is kept for what runs next.

var streams = [2]string{"stdout", "stderr"}

// output implements listener. It may wait for readers, so it holds no lock of the context then.
func (c *Context) output(stream int, data string) {
	c.mu.Lock()
	x := c.running
	if x == nil {
		c.keepLoose(stream, data)
	}
	c.mu.Unlock()
	if x != nil {
		x.log.append(false, outputEvent(streams[stream], data))
	}
}

func (c *Context) keepLoose(stream int, data string) {
	data = data[max(0, len(data)-looseBytes):]
	c.loose = append(c.loose, looseOutput{stream, data})
	for c.looseSize += len(data) + 64; c.looseSize > looseBytes+len(data)+64; {
		c.looseSize -= len(c.loose[0].data) + 64
		c.loose = c.loose[1:]
	}
}

// frame implements listener.
func (c *Context) frame(kind byte, payload []byte) {
	c.mu.Lock()
	x := c.running
	c.mu.Unlock()
	if x == nil {
		return
	}
	switch kind {
	case frameDisplay:
		x.show("display", payload)
	case frameValue:
		x.show("value", payload)
	case frameError:
		if name, message, traceback, ok := problem(payload); ok {
			x.log.append(false, errorEvent(name, message, traceback))
		}
	case frameIgnored: // it came before the code had begun, or through an event loop
		c.mu.Lock()
		if x.asked || x.expired {
			c.pressLater(x, ignoredAfter, pressedMost)
		}
		c.mu.Unlock()
	case frameDone:
		c.done(x, payload)
	}
}

func (x *Execution) show(role string, payload []byte) {
	if event := resultEvent(role, payload); event != nil {
		x.log.append(false, event)
	}
}

func (c *Context) done(x *Execution, payload []byte) {
	number, status, detail := readDone(payload)
	if number != x.number {
		return
	}
	c.mu.Lock()
	asked, expired := x.asked, x.expired
	c.mu.Unlock()
	status = c.verdict(x, status, detail, asked || expired)
	limit := ""
	if expired {
		status, limit = "timeout", "timeout"
	}
	c.mu.Lock()
	c.running = nil
	next, l := c.advance(), c.link
	c.mu.Unlock()
	l.send(next)
	x.finish(status, true, limit)
}

// verdict makes a status of the wire from what the program said.
func (c *Context) verdict(x *Execution, status, detail string, asked bool) string {
	switch {
	case status == "error" && asked && c.language.stopper: // of a program it waited for, which the signal reached first
		return "interrupted"
	case status == "ok" || status == "interrupted" || status == "error":
		return status
	case status == "exit" && detail == "0":
		return "ok"
	case status == "exit" && asked && detail == "130":
		return "interrupted"
	case status == "exit":
		x.log.append(false, errorEvent("ExitStatus", clip([]byte(detail), 16), ""))
	}
	return "error"
}
