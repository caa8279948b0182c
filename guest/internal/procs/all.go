package procs

import (
	"os"
	"strconv"
	"syscall"
)

// SignalAll reaches every process of the sandbox when the guest is its PID 1, else every group that it started.
func (m *Manager) SignalAll(signal syscall.Signal) {
	if os.Getpid() == 1 {
		_ = syscall.Kill(-1, signal)
		return
	}
	for _, p := range m.All() {
		_ = p.Signal(signal, true)
	}
}

// Alive tells whether any process but the guest is left.
func (m *Manager) Alive() bool {
	if os.Getpid() != 1 {
		return m.Reaper.Children() > 0
	}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != 1 && sessionOf(pid) != 0 {
			return true
		}
	}
	return false
}
