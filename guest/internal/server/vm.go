package server

import (
	"net/http"
	"strings"
	"sync"

	"cloche/guest/internal/machine"
	"cloche/guest/internal/wire"
)

// Machine is a kernel of the sandbox's own.
type Machine interface {
	Freeze() error
	Thaw() error
	Identify(hostname, machineID string) error
	SetClock(seconds float64) error
	Reseed(entropy []byte) error
	Limit(limits machine.Limits) error
	TellForked()
}

const wakeEntropy = 64

// identity is what health tells. A copy of the sandbox gets another one.
type identity struct {
	mu               sync.Mutex
	sandboxID, nonce string
}

func (i *identity) get() (sandboxID, nonce string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sandboxID, i.nonce
}

func (i *identity) set(sandboxID, nonce string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sandboxID, i.nonce = sandboxID, nonce
}

// sleep is whether user code is frozen. Its lock is held by whoever changes that.
type sleep struct {
	mu     sync.Mutex
	frozen bool
}

func (s *server) vmRoutes() map[string]handler {
	return map[string]handler{"POST /v1/freeze": s.freeze, "POST /v1/thaw": s.thaw, "POST /v1/wake": s.wake}
}

func (s *server) ownKernel() error {
	if s.Machine == nil {
		return wire.Errorf("unavailable_here", "this sandbox shares the host's kernel: it cannot be frozen from inside")
	}
	return nil
}

func (s *server) freeze(w http.ResponseWriter, r *http.Request) error {
	if err := firstOf(s.ownKernel, func() error { return decode(w, r, &struct{}{}) }); err != nil {
		return err
	}
	s.sleep.mu.Lock()
	defer s.sleep.mu.Unlock()
	if !s.sleep.frozen {
		s.Manager.Gate.Close()
	}
	if err := s.Machine.Freeze(); err != nil {
		s.sleep.frozen = false
		s.Manager.Gate.Open(false)
		return wire.Errorf("wrong_state", "the sandbox cannot be frozen: %v", err)
	}
	s.sleep.frozen = true
	return noContent(w)
}

func (s *server) thaw(w http.ResponseWriter, r *http.Request) error {
	if err := firstOf(s.ownKernel, func() error { return decode(w, r, &struct{}{}) }); err != nil {
		return err
	}
	s.sleep.mu.Lock()
	defer s.sleep.mu.Unlock()
	if err := s.goOn(false); err != nil {
		return err
	}
	return noContent(w)
}

// goOn lets user code run, and start. The lock is held.
func (s *server) goOn(copied bool) error {
	if err := s.Machine.Thaw(); err != nil {
		return wire.Errorf("wrong_state", "the sandbox cannot be thawed: %v", err)
	}
	if s.sleep.frozen {
		s.Manager.Gate.Open(copied)
	}
	s.sleep.frozen = false
	return nil
}

type wakeRequest struct {
	SandboxID wire.Text `json:"sandbox_id"`
	Nonce     wire.Text `json:"nonce"`
	Hostname  string    `json:"hostname"`
	MachineID string    `json:"machine_id"`
	Time      float64   `json:"time"`
	Entropy   []byte    `json:"entropy"`
	Forked    bool      `json:"forked"`
	MemoryMiB int64     `json:"memory_mib"`
	Pids      int64     `json:"pids"`
	CPUs      float64   `json:"cpus"`
}

func (b *wakeRequest) limits() machine.Limits {
	return machine.Limits{MemoryMiB: b.MemoryMiB, Pids: b.Pids, CPUs: b.CPUs}
}

func (b *wakeRequest) check() error {
	if !(b.Time > 0 && b.Time < 1e11) {
		return wire.InvalidField("time", "time must be UTC seconds since the epoch")
	}
	if len(b.Entropy) != wakeEntropy {
		return wire.InvalidField("entropy", "entropy must be %d bytes", wakeEntropy)
	}
	for field, err := range map[string]error{"hostname": machine.CheckIdentity(b.Hostname, ""),
		"machine_id": machine.CheckIdentity("", b.MachineID)} {
		if err != nil {
			return wire.InvalidField(field, "%v", err)
		}
	}
	if err := b.limits().Check(); err != nil {
		field, _, _ := strings.Cut(err.Error(), " ")
		return wire.InvalidField(field, "%v", err)
	}
	return nil
}

// wake makes this machine a sandbox of its own after a start or a restore. Nothing of user code runs until its end, where
// it was frozen before; what is sent to it on the way, it finds when it goes on.
func (s *server) wake(w http.ResponseWriter, r *http.Request) error {
	var body wakeRequest
	if err := firstOf(s.ownKernel, func() error { return decode(w, r, &body) }, body.check); err != nil {
		return err
	}
	s.sleep.mu.Lock()
	defer s.sleep.mu.Unlock()
	err := firstOf(
		func() error { return s.Machine.Identify(body.Hostname, body.MachineID) },
		func() error { s.identity.set(string(body.SandboxID), string(body.Nonce)); return nil },
		func() error { return s.Machine.SetClock(body.Time) },
		func() error { return s.Machine.Reseed(body.Entropy) },
		func() error { s.contexts.Reseed(); return nil },
		func() error { return s.Machine.Limit(body.limits()) },
		func() error {
			if body.Forked {
				s.Machine.TellForked()
			}
			return nil
		},
		func() error { return s.goOn(body.Forked) })
	if err != nil {
		return err
	}
	return noContent(w)
}

// firstOf does one after the other until something fails.
func firstOf(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
