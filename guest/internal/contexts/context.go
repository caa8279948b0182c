package contexts

import (
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
