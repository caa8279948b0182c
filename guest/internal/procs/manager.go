// Package procs starts processes, watches them, and keeps what they wrote.
package procs

import (
	"runtime/debug"
	"sort"
	"sync"
	"time"

	"cloche/guest/internal/reaper"
	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

const (
	tidyAfter      = 5 * time.Second
	keptExited     = 256
	keptFor        = time.Hour
	keptRingsTotal = 8 // of exited processes, in units of one ring
)

// Config is what the manager is given at start-up. MemoryFD is -1 when there is none. GroupFD is the directory of the
// cgroup that everything starts in, 0 when there is none. Nothing starts before Ready has returned, which is
// called each time; nil is ready.
type Config struct {
	Book      *users.Book
	Reaper    *reaper.Reaper
	MemoryFD  int
	GroupFD   int
	OwnKernel bool
	RingBytes int
	Ready     func()
}

// Manager holds every process that the guest started and has not forgotten.
type Manager struct {
	Config
	Gate      Gate
	mu        sync.Mutex
	session   Session
	door      map[string]string
	processes map[string]*Process
	sequence  uint64
	pruning   bool
	tidying   bool
}

// NewManager makes an empty one.
func NewManager(config Config) *Manager {
	return &Manager{Config: config, processes: map[string]*Process{}, session: Session{User: "user"}}
}

// SetSession replaces the defaults. An empty user stays what it was.
func (m *Manager) SetSession(s Session) error {
	if err := s.Check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.User == "" {
		s.User = m.session.User
	}
	m.session = s
	return nil
}

// Session returns the defaults.
func (m *Manager) Session() Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	session := m.session
	session.door = m.door
	return session
}

// SetDoorEnv replaces what every later process is told of the way out of the sandbox.
func (m *Manager) SetDoorEnv(env map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.door = env
}

// User finds the named user, or the session's for "".
func (m *Manager) User(name string) (users.User, error) {
	if name == "" {
		name = string(m.Session().User)
	}
	return m.Book.Lookup(name)
}

func (m *Manager) add(p *Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sequence++
	p.sequence = m.sequence
	m.processes[p.id] = p
}

// Get finds a process by its id.
func (m *Manager) Get(id string) (*Process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.processes[id]; p != nil {
		return p, nil
	}
	return nil, wire.Errorf("not_found", "no process %q in this sandbox", id)
}

// All returns every process, the newest last.
func (m *Manager) All() []*Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*Process, 0, len(m.processes))
	for _, p := range m.processes {
		all = append(all, p)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].sequence < all[j].sequence })
	return all
}

// Prune forgets the exited processes that are too many or too old, and the output that is too much.
func (m *Manager) Prune() {
	var exited []*Process
	for _, p := range m.All() {
		if p.Exited() {
			exited = append(exited, p)
		}
	}
	budget := int64(keptRingsTotal * m.RingBytes)
	for i := len(exited) - 1; i >= 0; i-- {
		p := exited[i]
		if len(exited)-i > keptExited || time.Since(p.exitedAt()) > keptFor {
			m.forget(p)
			continue
		}
		if budget -= p.Log.Held(); budget < 0 {
			p.Log.Drop()
		}
	}
	if len(exited) > 0 {
		m.pruneLater()
	}
}

// pruneLater keeps one timer, however many processes there were.
func (m *Manager) pruneLater() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pruning {
		return
	}
	m.pruning = true
	time.AfterFunc(keptFor+time.Second, func() {
		m.mu.Lock()
		m.pruning = false
		m.mu.Unlock()
		m.Prune()
	})
}

// tidyLater gives memory back to the kernel a while after processes have ended: an idle guest collects nothing by itself.
// A kernel of the sandbox's own keeps what it is given, and touching it all would cost more.
func (m *Manager) tidyLater() {
	if m.OwnKernel {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tidying {
		return
	}
	m.tidying = true
	time.AfterFunc(tidyAfter, func() {
		m.mu.Lock()
		m.tidying = false
		m.mu.Unlock()
		debug.FreeOSMemory()
	})
}

func (m *Manager) forget(p *Process) {
	m.mu.Lock()
	delete(m.processes, p.id)
	m.mu.Unlock()
	p.Log.Drop()
}

// Delete kills what runs in the process's session and forgets it with its output.
func (m *Manager) Delete(id string) error {
	p, err := m.Get(id)
	if err != nil {
		return err
	}
	if !p.Exited() {
		p.killSession()
		select {
		case <-p.Done():
		case <-time.After(2 * time.Second):
		}
	}
	m.forget(p)
	return nil
}

// RingBytesHeld is the memory that all kept output uses.
func (m *Manager) RingBytesHeld() (held int64) {
	for _, p := range m.All() {
		held += p.Log.Held()
	}
	return held
}
