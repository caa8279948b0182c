package procs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"cloche/guest/internal/execstep"
	"cloche/guest/internal/output"
	"cloche/guest/internal/reaper"
	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

// oomScoreAdj is half of the scale.
const oomScoreAdj = 500

// Start runs what the spec says. A command that cannot be started is an exited process; errors are for requests that
// are wrong or that this sandbox cannot serve.
func (m *Manager) Start(spec *wire.ProcessSpec) (*Process, error) {
	return m.start(spec, output.NewLog(m.RingBytes))
}

// StartFollowed is Start for somebody who follows the output: a reader that comes after the start may have lost
// what a quick process wrote before.
func (m *Manager) StartFollowed(spec *wire.ProcessSpec) (*Process, *output.Reader, error) {
	log := output.NewLog(m.RingBytes)
	reader := log.Open(0, 0, true)
	p, err := m.start(spec, log)
	return p, reader, err
}

func (m *Manager) start(spec *wire.ProcessSpec, log *output.Log) (*Process, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	session := m.Session()
	name := string(session.User)
	if spec.User != nil && *spec.User != "" {
		name = string(*spec.User)
	}
	user, err := m.Book.Lookup(name)
	p := &Process{id: newID(), manager: m, spec: spec, user: name, started: time.Now(),
		Log: log, exited: make(chan reaper.Exit, 1),
		settled: make(chan struct{}), done: make(chan struct{})}
	if err != nil {
		return p.refused(err)
	}
	p.user, p.cwd = user.Name, session.directory(user, spec)
	if p.io, err = openStdio(spec, user, m.Book.SharedUID); err != nil {
		return nil, wire.FromErr(err)
	}
	m.add(p)
	p.launch(&session, user)
	return p, nil
}

func (p *Process) refused(err error) (*Process, error) {
	refusal := wire.FromErr(err)
	if refusal.Code != "invalid" {
		return nil, err
	}
	p.manager.add(p)
	p.fail(126, refusal.Message, "")
	return p, nil
}

func (p *Process) launch(session *Session, user users.User) {
	env := session.environment(user, p.cwd, p.spec)
	p.oomBase = readOOMKills(p.manager.MemoryFD)
	if err := p.fork(p.command(session, user, env)); err != nil {
		p.io.closeAll()
		code, limit := codeOf(err)
		p.fail(code, err.Error(), limit)
		return
	}
	if p.problems {
		<-p.done
	}
}

func codeOf(err error) (code int, limit string) {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return 127, ""
	case errors.Is(err, syscall.EAGAIN):
		return 126, "pids"
	}
	return 126, ""
}

// command is the process in the exec step's words.
func (p *Process) command(session *Session, user users.User, env []string) *execstep.Command {
	argv := make([]string, 0, len(p.spec.Argv))
	for _, part := range p.spec.Argv {
		argv = append(argv, string(part))
	}
	return &execstep.Command{Argv: argv, Env: env, Cwd: p.cwd, Files: p.io.child[:], Terminal: p.spec.Pty != nil,
		SetIDs: !p.manager.Book.SharedUID, UID: user.UID, GID: user.GID, Groups: groupIDs(user),
		OpenFiles: session.OpenFiles, Pids: session.Pids, OOMScoreAdj: oomScoreAdj,
		Group: p.manager.GroupFD, AllOfRoot: p.manager.OwnKernel}
}

// fork starts the child and everything that watches it.
func (p *Process) fork(command *execstep.Command) error {
	child, step, err := p.manager.begin(command, func(exit reaper.Exit) { p.exited <- exit })
	p.io.closeChildEnds()
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", p.spec.Argv[0], err)
	}
	p.mu.Lock()
	p.child = child
	p.mu.Unlock()
	p.stdin.open(p.io.input, p.spec.Pty != nil)
	p.io.pump(p)
	p.armTimeout()
	go p.supervise()
	p.settle(step.Outcome())
	return nil
}

// settle is called when the child has become the command, or has said why not.
func (p *Process) settle(failure *execstep.Failure) {
	if failure != nil {
		p.blame(p.explain(failure), failure.Errno)
	} else if p.manager.Book.SharedUID {
		p.manager.Reaper.While(p.child, func() { goFirst(p.child.Pid) })
	}
	close(p.settled)
}

// goFirst lets user code go before the guest when memory runs out. Where both have one id, the child cannot say so
// itself: until it is the command, its memory is the guest's, and so the kernel keeps its /proc from that id.
func goFirst(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(oomScoreAdj)), 0)
}

func (p *Process) explain(failure *execstep.Failure) string {
	switch failure.Stage {
	case "chdir":
		return "cannot enter " + p.cwd + ": " + failure.Errno.Error()
	case "lookup", "execve":
		return string(p.spec.Argv[0]) + ": " + failure.Errno.Error()
	}
	return failure.Stage + ": " + failure.Errno.Error()
}

func groupIDs(user users.User) []uint32 {
	ids := make([]uint32, 0, len(user.Groups))
	for _, group := range user.Groups {
		ids = append(ids, uint32(group))
	}
	return ids
}
