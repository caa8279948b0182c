package contexts

import (
	"fmt"
	"sync"
	"time"

	"cloche/guest/internal/procs"
	"cloche/guest/internal/wire"
)

const (
	readyWithin  = 30 * time.Second
	graceAfter   = 2 * time.Second
	looseBytes   = 64 << 10
	pressedMost  = 10
	pressedEvery = 100 * time.Millisecond
	ignoredAfter = 5 * time.Millisecond
	restarted    = "restarted" // an end that is none: the wire never shows it
)

// Context is one interpreter's place: it keeps its id when the interpreter is started anew.
type Context struct {
	manager  *Manager
	id       string
	spec     *wire.ContextSpec
	language *language
	created  time.Time
	usual    bool // code that names no context runs here

	changing sync.Mutex // held while an interpreter is started or replaced

	mu         sync.Mutex
	link       *link
	version    string
	path       string
	state      string // starting, idle, ended; busy is idle with something running
	running    *Execution
	queue      []*Execution
	executions int
	loose      []looseOutput // said while nothing ran
	looseSize  int
	env        []string
	cwd        string
	session    int // the session that env is of
	end        string
	limit      string
}

type looseOutput struct {
	stream int
	data   string
}

// ID is the context's name on the wire.
func (c *Context) ID() string { return c.id }

// Info is the context as the wire shows it, now.
func (c *Context) Info() wire.ContextInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := wire.ContextInfo{ID: c.id, Language: c.language.name, State: c.state, CreatedAt: procs.Seconds(c.created),
		Interpreter: wire.Text(c.path), Version: wire.Text(c.version), Default: c.usual, Executions: c.executions, Queued: len(c.queue)}
	if c.link != nil {
		info.Cwd, info.User = wire.Text(c.cwd), wire.Text(c.link.process.User)
		if c.state != "ended" {
			info.Pid = c.link.process.Pid
		}
	}
	if c.running != nil {
		info.State, info.ExecutionID = "busy", &c.running.id
	}
	if end := c.end; end != "" {
		info.End = &end
	}
	if limit := c.limit; limit != "" {
		info.LimitHit = &limit
	}
	return info
}

func (c *Context) hiddenSpec() procs.HiddenSpec {
	spec := procs.HiddenSpec{Env: c.spec.Env, Cwd: c.spec.Cwd}
	if c.spec.User != nil {
		spec.User = *c.spec.User
	}
	return spec
}

// start makes an interpreter and waits until it is ready. The `changing` lock is held.
func (c *Context) start() error {
	generation := c.manager.generation()
	if _, err := c.manager.procs.User(string(c.hiddenSpec().User)); err != nil {
		return err
	}
	env, cwd, _ := c.manager.procs.HiddenEnv(c.hiddenSpec())
	var problem error = missing(c.language.name)
	for _, path := range c.language.find(cwd, env) {
		problem = c.startAs(path, generation)
		if problem == nil || wire.FromErr(problem).Code == "invalid" || !c.tooOld(path) {
			return problem
		}
		problem = missing(c.language.name)
	}
	return problem
}

func (c *Context) startAs(path string, generation int) error {
	spec := c.hiddenSpec()
	spec.Argv = c.language.argv(path)
	l, err := open(c.manager.procs, spec, c.language, c)
	if err != nil {
		return err
	}
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case version := <-l.ready:
		c.settle(l, path, version, generation)
		return nil
	case <-l.over:
		return wire.Errorf("internal", "%s ended before it was ready: %s", path, l.lastWords())
	case <-timer.C:
		l.stop()
		return wire.Errorf("internal", "%s was not ready within %v", path, readyWithin)
	}
}

func (c *Context) tooOld(path string) bool {
	return !c.manager.suits(c.language, path, c.hiddenSpec())
}

func (c *Context) settle(l *link, path, version string, generation int) {
	c.mu.Lock()
	c.link, c.path, c.version, c.state = l, path, version, "idle"
	c.env, c.cwd, c.session, c.executions, c.end, c.limit = l.process.Env, l.process.Cwd, generation, 0, "", ""
	next, gone := c.advance(), l.gone
	c.mu.Unlock()
	if gone != nil { // between its first word and now
		c.ended(l, *gone)
		return
	}
	l.send(next)
}

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
	case frameDisplay, frameValue:
		role := map[byte]string{frameDisplay: "display", frameValue: "value"}[kind]
		if event := resultEvent(role, payload); event != nil {
			x.log.append(false, event)
		}
	case frameError:
		if name, message, traceback, ok := problem(payload); ok {
			x.log.append(false, errorEvent(name, message, traceback))
		}
	case frameIgnored: // it came before the code had begun, or through an event loop
		c.mu.Lock()
		if x.asked || x.expired {
			c.link.write(stopFrame(x.number))
			if !c.language.misses {
				c.pressLater(x, ignoredAfter, pressedMost)
			}
		}
		c.mu.Unlock()
	case frameDone:
		c.done(x, payload)
	}
}

func (c *Context) done(x *Execution, payload []byte) {
	number, status, detail := done(payload)
	if number != x.number {
		return
	}
	c.mu.Lock()
	asked, expired := x.asked, x.expired
	c.mu.Unlock()
	status = c.verdict(x, status, detail, asked || expired)
	if limit := ""; expired {
		status, limit = "timeout", "timeout"
		defer x.finish(status, true, limit)
	} else {
		defer x.finish(status, true, "")
	}
	c.mu.Lock()
	c.running = nil
	next, l := c.advance(), c.link
	c.mu.Unlock()
	l.send(next)
}

// verdict makes a status of the wire from what the program said.
func (c *Context) verdict(x *Execution, status, detail string, asked bool) string {
	switch {
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

// press sends the signal, under the lock, so that it can never reach what runs next. A shell that was about to start a
// command when it came waits for that command, which did not get it, and JavaScript misses one that comes just before
// the code: so these are asked again.
func (c *Context) press(x *Execution, before int) {
	c.link.process.Interrupt()
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
	for _, next := range waiting {
		next.finish("context_ended", false, "")
	}
	c.manager.forgetOldest()
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
	for _, next := range waiting {
		next.finish("context_ended", false, "")
	}
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
