package procs

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cloche/guest/internal/wire"
)

const killAfter = 2 * time.Second

var signalNames = map[string]syscall.Signal{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
	"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19,
	"TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28,
	"IO": 29, "PWR": 30, "SYS": 31,
}

// ParseSignal reads 15, "15", "TERM" or "SIGTERM".
func ParseSignal(text string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 64 {
		return syscall.Signal(n), nil
	}
	if signal, ok := signalNames[strings.TrimPrefix(strings.ToUpper(text), "SIG")]; ok {
		return signal, nil
	}
	return 0, wire.InvalidField("signal", "no such signal: %q", text)
}

func errExited() *wire.Error {
	return wire.Errorf("wrong_state", "the process has exited").With("state", "exited")
}

// Signal sends to the process or to its whole group.
func (p *Process) Signal(signal syscall.Signal, group bool) error {
	p.mu.Lock()
	child := p.child
	p.mu.Unlock()
	if child == nil {
		return errExited()
	}
	ok, err := p.manager.Reaper.Signal(child, signal, group)
	if !ok {
		return errExited()
	}
	return err
}

// Resize changes the terminal's size.
func (p *Process) Resize(rows, cols uint16) error {
	if p.spec.Pty == nil {
		return wire.Errorf("wrong_state", "the process has no terminal")
	}
	if p.Exited() {
		return errExited()
	}
	return setSize(p.io.input, rows, cols)
}

// hit records the first limit that the process ran into and signals its group.
func (p *Process) hit(limit string, signal syscall.Signal) {
	p.mu.Lock()
	over := p.exit != nil || p.child == nil
	if !over && p.limit == "" {
		p.limit = limit
	}
	p.mu.Unlock()
	if over {
		return
	}
	p.manager.Reaper.SetKillRest(p.child)
	_ = p.Signal(signal, true)
}

func (p *Process) armTimeout() {
	if p.spec.TimeoutSeconds == nil {
		return
	}
	// A year is beyond any sandbox's life and far below the overflow of a Duration.
	after := time.Duration(min(*p.spec.TimeoutSeconds, 366*86400) * float64(time.Second))
	p.after(after, func() {
		p.hit("timeout", syscall.SIGTERM)
		p.after(killAfter, func() { _ = p.Signal(syscall.SIGKILL, true) })
	})
}

func (p *Process) after(d time.Duration, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit == nil {
		p.timers = append(p.timers, time.AfterFunc(d, f))
	}
}

// killSession kills the group, then whoever left the group but not the session, until nobody is found.
func (p *Process) killSession() {
	p.mu.Lock()
	child := p.child
	p.mu.Unlock()
	if child == nil {
		return
	}
	p.manager.Reaper.SetKillRest(child)
	_ = p.Signal(syscall.SIGHUP, true)
	_ = p.Signal(syscall.SIGKILL, true)
	for round := 0; round < 20 && killMembers(child.Pid) > 0; round++ {
		time.Sleep(time.Millisecond)
	}
}

func killMembers(session int) (found int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && pid != session && sessionOf(pid) == session {
			found++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return found
}

// sessionOf returns 0 for a process that is gone or a zombie.
func sessionOf(pid int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything; what follows it: state, ppid, pgrp, session.
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 4 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	session, _ := strconv.Atoi(fields[3])
	return session
}
