package procs

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cloche/guest/internal/reaper"
	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

// HiddenSpec is a process of the guest's own: it runs as every other one does, and no list shows it. Files are its
// descriptors from 0 on; pipes among the first three are given to its user. They stay the caller's to close.
type HiddenSpec struct {
	Argv  []string
	Env   wire.Env
	Cwd   *wire.Text
	User  wire.Text // "" is the session's
	Files []int
}

// Hidden is such a process, started.
type Hidden struct {
	Pid  int
	Cwd  string
	User string
	Env  []string // as it was started with
	p    *Process
}

// HiddenEnd is how it ended: a shell's exit code, and the limit of the box that explains it, or "".
type HiddenEnd struct {
	Code  int
	Limit string
}

// StartHidden runs it; ended is called once, when it has been reaped. The error names what was wrong with the request
// or why it could not be executed.
func (m *Manager) StartHidden(spec HiddenSpec, ended func(HiddenEnd)) (*Hidden, error) {
	session := m.Session()
	user, err := m.User(string(spec.User))
	if err != nil {
		return nil, err
	}
	p := &Process{manager: m, user: user.Name, started: time.Now(), exited: make(chan reaper.Exit, 1), io: &stdio{},
		settled: make(chan struct{})}
	p.spec = &wire.ProcessSpec{Env: spec.Env, Cwd: spec.Cwd}
	for _, part := range spec.Argv {
		p.spec.Argv = append(p.spec.Argv, wire.Text(part))
	}
	p.cwd = session.directory(user, p.spec)
	p.oomBase = readOOMKills(m.MemoryFD)
	if !m.Book.SharedUID {
		(&stdio{owned: spec.Files[:3]}).giveTo(user)
	}
	h := &Hidden{Cwd: p.cwd, User: user.Name, Env: session.environment(user, p.cwd, p.spec), p: p}
	if err := h.start(&session, user, spec.Files, ended); err != nil {
		return nil, err
	}
	h.Pid = p.child.Pid
	return h, nil
}

// HiddenEnv is the environment, and the directory, that such a process would start with now.
func (m *Manager) HiddenEnv(spec HiddenSpec) (env []string, cwd, user string) {
	session := m.Session()
	found, err := m.User(string(spec.User))
	if err != nil {
		return nil, "", ""
	}
	asked := &wire.ProcessSpec{Env: spec.Env, Cwd: spec.Cwd}
	cwd = session.directory(found, asked)
	return session.environment(found, cwd, asked), cwd, found.Name
}

func (h *Hidden) start(session *Session, user users.User, files []int, ended func(HiddenEnd)) error {
	command := h.p.command(session, user, h.Env)
	command.Files = files
	child, step, err := h.p.manager.begin(command, func(exit reaper.Exit) { go ended(h.end(exit)) })
	if err != nil {
		return err
	}
	h.p.child = child
	h.p.settle(step.Outcome())
	if h.p.problems {
		return wire.Invalid("%s", h.p.problem)
	}
	return nil
}

func (h *Hidden) end(exit reaper.Exit) HiddenEnd {
	code := exit.Status.ExitStatus()
	if exit.Status.Signaled() {
		code = 128 + int(exit.Status.Signal())
	}
	limit := ""
	if code != 0 {
		limit = h.p.diagnose(code)
	}
	h.p.manager.tidyLater()
	return HiddenEnd{Code: code, Limit: limit}
}

// Interrupt sends SIGINT to its process group; it does nothing when the process has ended.
func (h *Hidden) Interrupt() { _ = h.p.Signal(syscall.SIGINT, true) }

// Nudge sends it, and nothing else of its group, a signal that does no harm to a program that does not wait for it.
func (h *Hidden) Nudge() { _ = h.p.Signal(syscall.SIGURG, false) }

// Kill ends it with every process of its session.
func (h *Hidden) Kill() { h.p.killSession() }

// LookPath finds a command as the user of spec would.
func LookPath(name, cwd string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, entry := range env {
		list, ok := strings.CutPrefix(entry, "PATH=")
		for _, dir := range filepath.SplitList(list) {
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(cwd, dir)
			}
			if found, err := exec.LookPath(filepath.Join(dir, name)); ok && err == nil {
				return found, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", name, syscall.ENOENT)
}

// NewID is an id of this guest's making: a letter, "_" and 26 characters that sort by time.
func NewID(letter string) string { return letter + newID()[1:] }
