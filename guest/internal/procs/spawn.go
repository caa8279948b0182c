package procs

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cloche/guest/internal/output"
	"cloche/guest/internal/reaper"
	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

// Start runs what the spec says. A command that cannot be started is an exited process; errors are for requests that
// are wrong or that this sandbox cannot serve.
func (m *Manager) Start(spec *wire.ProcessSpec) (*Process, error) {
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
		Log: output.NewLog(m.RingBytes), exited: make(chan reaper.Exit, 1),
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
	var err error
	if p.manager.ExecFD >= 0 {
		err = p.throughExecStep(session, user, env)
	} else {
		err = p.directly(user, env)
	}
	if err != nil {
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
	failure := wire.FromErr(err)
	switch errno, _ := failure.Details["errno"].(int); syscall.Errno(errno) {
	case syscall.ENOENT:
		return 127, ""
	case syscall.EAGAIN:
		return 126, "pids"
	}
	return 126, ""
}

// fork starts the child and everything that watches it.
func (p *Process) fork(path string, argv []string, attr *syscall.ProcAttr) error {
	child, err := p.manager.Reaper.Start(
		func() (int, error) { return syscall.ForkExec(path, argv, attr) },
		func(exit reaper.Exit) { p.exited <- exit })
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
	return nil
}

func (p *Process) throughExecStep(session *Session, user users.User, env []string) error {
	var status [2]int
	if err := syscall.Pipe2(status[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	plan, _ := json.Marshal(p.plan(session, user))
	argv := []string{"cloche-exec", string(plan), "--"}
	for _, part := range p.spec.Argv {
		argv = append(argv, string(part))
	}
	files := append(p.io.childFiles(), uintptr(status[1]))
	err := p.fork(fmt.Sprintf("/proc/self/fd/%d", p.manager.ExecFD), argv,
		&syscall.ProcAttr{Env: env, Files: files, Sys: p.sys()})
	_ = syscall.Close(status[1])
	_ = syscall.SetNonblock(status[0], true)
	reader := os.NewFile(uintptr(status[0]), "status")
	defer reader.Close()
	if err != nil {
		return err
	}
	p.readStatus(reader)
	close(p.settled)
	return nil
}

func (p *Process) plan(session *Session, user users.User) wire.ExecSpec {
	limits := map[string]uint64{"core": 0}
	if session.OpenFiles > 0 {
		limits["nofile"] = session.OpenFiles
	}
	if session.Pids > 0 {
		limits["nproc"] = session.Pids
	}
	return wire.ExecSpec{UID: user.UID, GID: user.GID, Groups: groupIDs(user), Cwd: wire.Text(p.cwd),
		Rlimits: limits, OOMScoreAdj: 500, StatusFD: 3, SetIDs: !p.manager.Book.SharedUID}
}

// readStatus waits until the exec step has become the command, or has said why not.
func (p *Process) readStatus(reader io.Reader) {
	line, _ := io.ReadAll(io.LimitReader(reader, 64<<10))
	if len(line) == 0 {
		return
	}
	var failure wire.ExecFailure
	if json.Unmarshal(line, &failure) != nil {
		failure = wire.ExecFailure{Stage: "exec step", Message: string(line)}
	}
	p.blame(p.explain(failure), failure.Errno)
}

func (p *Process) explain(failure wire.ExecFailure) string {
	switch failure.Stage {
	case "chdir":
		return "cannot enter " + p.cwd + ": " + failure.Message
	case "lookup", "execve":
		return string(p.spec.Argv[0]) + ": " + failure.Message
	}
	return failure.Stage + ": " + failure.Message
}

// directly serves engines without the exec step, and tests: no rlimits, and the look-up happens here.
func (p *Process) directly(user users.User, env []string) error {
	name := string(p.spec.Argv[0])
	found, err := lookPath(name, p.cwd, env)
	if err != nil {
		return err
	}
	if err := syscall.Access(p.cwd, 1); err != nil {
		return wire.Errorf("invalid", "cannot enter %s: %v", p.cwd, err)
	}
	argv := make([]string, 0, len(p.spec.Argv))
	for _, part := range p.spec.Argv {
		argv = append(argv, string(part))
	}
	sys := p.sys()
	if os.Getuid() == 0 && user.UID != 0 {
		sys.Credential = &syscall.Credential{Uid: uint32(user.UID), Gid: uint32(user.GID)}
		sys.Credential.Groups = groupIDs(user)
	}
	close(p.settled)
	return p.fork(found, argv, &syscall.ProcAttr{Dir: p.cwd, Env: env, Files: p.io.childFiles(), Sys: sys})
}

func (p *Process) sys() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Setctty: p.spec.Pty != nil, Ctty: 0}
}

func lookPath(name, cwd string, env []string) (string, error) {
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

func groupIDs(user users.User) []uint32 {
	ids := make([]uint32, 0, len(user.Groups))
	for _, group := range user.Groups {
		ids = append(ids, uint32(group))
	}
	return ids
}
