package procs

import (
	"sync"
	"sync/atomic"

	"cloche/guest/internal/execstep"
	"cloche/guest/internal/reaper"
	"cloche/guest/internal/wire"
)

// Gate holds what the guest itself would start while the sandbox is frozen: it waits and starts afterwards. Only in a
// copy of the sandbox it never does, since there nobody asked for it.
type Gate struct {
	mu     sync.RWMutex
	copies atomic.Int64
}

// Close waits for starts that have begun. What comes then waits until Open.
func (g *Gate) Close() { g.mu.Lock() }

// Open lets starts through. Those that waited are refused when this became a copy meanwhile.
func (g *Gate) Open(copied bool) {
	if copied {
		g.copies.Add(1)
	}
	g.mu.Unlock()
}

func (g *Gate) pass(start func() error) error {
	return g.passed(g.copies.Load(), start)
}

func (g *Gate) passed(before int64, start func() error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.copies.Load() != before {
		return wire.Errorf("wrong_state", "the sandbox was copied while this waited: it starts in the original only")
	}
	return start()
}

// begin starts a command; ended is called on the reaper's goroutine.
func (m *Manager) begin(command *execstep.Command, ended func(reaper.Exit)) (*reaper.Child, *execstep.Child, error) {
	if m.Ready != nil {
		m.Ready()
	}
	var child *reaper.Child
	var step *execstep.Child
	err := m.Gate.pass(func() (err error) {
		child, err = m.Reaper.Start(func() (pid int, err error) {
			if step, err = command.Start(); err == nil {
				pid = step.Pid
			}
			return pid, err
		}, ended)
		return err
	})
	return child, step, err
}
