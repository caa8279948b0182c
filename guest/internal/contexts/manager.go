package contexts

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"cloche/guest/internal/procs"
	"cloche/guest/internal/wire"
)

const (
	keptExecutions = 64
	keptEnded      = 64
)

// Manager holds every context and execution that has not been forgotten.
type Manager struct {
	procs    *procs.Manager
	sessions atomic.Int64
	verdicts verdicts
	rings    rings

	usual map[string]*sync.Mutex // by language: held while its default context is looked for

	mu         sync.Mutex
	contexts   map[string]*Context
	executions map[string]*Execution
	retired    []*Execution // oldest first
}

// NewManager makes an empty one whose interpreters manager starts.
func NewManager(manager *procs.Manager) *Manager {
	m := &Manager{procs: manager, contexts: map[string]*Context{}, executions: map[string]*Execution{}, usual: map[string]*sync.Mutex{}}
	for _, name := range wire.Languages {
		m.usual[name] = &sync.Mutex{}
	}
	return m
}

func (m *Manager) generation() int { return int(m.sessions.Load()) }

// SessionChanged brings the new session environment to every context before what it runs next. One that has run
// nothing and would now be another user's is started anew.
func (m *Manager) SessionChanged() {
	m.sessions.Add(1)
	for _, c := range m.All() {
		_, _, user := m.procs.HiddenEnv(c.hiddenSpec())
		c.mu.Lock()
		stale := c.state == "idle" && c.executions == 0 && c.running == nil && user != "" && c.link.process.User != user
		c.mu.Unlock()
		if stale {
			_ = c.Restart()
		}
	}
}

// Create starts a context and waits until it is ready.
func (m *Manager) Create(spec *wire.ContextSpec) (*Context, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	return m.create(spec, false)
}

func (m *Manager) create(spec *wire.ContextSpec, usual bool) (*Context, error) {
	c := &Context{manager: m, id: procs.NewID("c"), spec: spec, language: languages[spec.Language], created: time.Now(),
		usual: usual, state: "starting"}
	c.changing.Lock()
	defer c.changing.Unlock()
	if err := m.reserve(c); err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		m.forget(c)
		return nil, m.withLanguages(err)
	}
	return c, nil
}

// reserve makes room for one more that lives.
func (m *Manager) reserve(c *Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	living := 0
	for _, other := range m.contexts {
		if other != c && !other.over() {
			living++
		}
	}
	if living >= wire.MaxContexts {
		return wire.Errorf("limit_hit", "there are %d contexts already: remove one", living).With("limit", "contexts")
	}
	m.contexts[c.id] = c
	return nil
}

func (c *Context) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == "ended"
}

func (m *Manager) forget(c *Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.contexts, c.id)
}

// forgetOldest keeps as many ended contexts as may be remembered.
func (m *Manager) forgetOldest() {
	var ended []*Context
	for _, c := range m.All() {
		if c.over() {
			ended = append(ended, c)
		}
	}
	for i := 0; i < len(ended)-keptEnded; i++ {
		m.forget(ended[i])
	}
}

// All returns every context, the oldest first.
func (m *Manager) All() []*Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*Context, 0, len(m.contexts))
	for _, c := range m.contexts {
		all = append(all, c)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].id < all[j].id })
	return all
}

// Get finds a context by its id.
func (m *Manager) Get(id string) (*Context, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.contexts[id]; c != nil {
		return c, nil
	}
	return nil, wire.Errorf("not_found", "no context %q in this sandbox", id)
}

// Remove kills a context with its session and forgets it.
func (m *Manager) Remove(id string) error {
	c, err := m.Get(id)
	if err != nil {
		return err
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	c.stop("removed")
	m.forget(c)
	return nil
}

// Run queues code in its context and returns the execution with a reader of its events from the first on.
func (m *Manager) Run(spec *wire.CodeSpec) (*Execution, *Reader, error) {
	if err := spec.Check(); err != nil {
		return nil, nil, err
	}
	c, err := m.contextOf(spec)
	if err != nil {
		return nil, nil, err
	}
	x := newExecution(c, spec)
	reader := x.Open(0, true)
	m.mu.Lock()
	m.executions[x.id] = x
	m.mu.Unlock()
	if err := c.submit(x); err != nil {
		m.mu.Lock()
		delete(m.executions, x.id)
		m.mu.Unlock()
		return nil, nil, err
	}
	return x, reader, nil
}

func (m *Manager) contextOf(spec *wire.CodeSpec) (*Context, error) {
	if spec.ContextID != nil {
		return m.Get(*spec.ContextID)
	}
	turn := m.usual[spec.Language]
	turn.Lock()
	defer turn.Unlock()
	for _, c := range m.All() {
		if c.usual && c.language.name == spec.Language && !c.over() {
			return c, nil
		}
	}
	return m.create(&wire.ContextSpec{Language: spec.Language}, true)
}

// Execution finds one by its id.
func (m *Manager) Execution(id string) (*Execution, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.executions[id]; x != nil {
		return x, nil
	}
	return nil, wire.Errorf("not_found", "no execution %q in this sandbox", id)
}

// retire keeps an execution that has ended until newer ones need its place.
func (m *Manager) retire(x *Execution) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retired = append(m.retired, x)
	for len(m.retired) > keptExecutions {
		delete(m.executions, m.retired[0].id)
		m.retired = m.retired[1:]
	}
	room := int64(ringsBytes) - int64(m.rings.each())*m.rings.running.Load()
	room = max(room, ringBytes)
	for i := len(m.retired) - 1; i >= 0; i-- {
		if room -= int64(m.retired[i].log.held()); room < 0 {
			m.retired[i].log.drop()
		}
	}
}
