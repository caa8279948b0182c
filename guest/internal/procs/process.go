package procs

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cloche/guest/internal/output"
	"cloche/guest/internal/reaper"
	"cloche/guest/internal/wire"
)

// Process is one process from its start until it is forgotten.
type Process struct {
	Log *output.Log

	id       string
	sequence uint64
	manager  *Manager
	spec     *wire.ProcessSpec
	cwd      string
	user     string
	started  time.Time
	oomBase  int64
	io       *stdio
	stdin    stdin
	written  atomic.Int64
	over     atomic.Bool // it has been reaped
	exited   chan reaper.Exit
	settled  chan struct{} // closed when it is known whether the child became the command
	done     chan struct{}

	mu       sync.Mutex
	child    *reaper.Child
	timers   []*time.Timer
	limit    string
	problem  string
	problems bool
	exit     *reaper.Exit
	exitCode int
	signal   int
	ended    bool
}

// ID is the process's name on the wire.
func (p *Process) ID() string { return p.id }

// Done is closed when the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exited tells whether Done is closed.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *Process) exitedAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit == nil {
		return p.started
	}
	return p.exit.At
}

// Info is the process as the wire shows it, now.
func (p *Process) Info() wire.ProcessInfo {
	stdout, stderr := p.Log.Totals()
	p.mu.Lock()
	defer p.mu.Unlock()
	info := wire.ProcessInfo{
		ID: p.id, Argv: p.spec.Argv, State: "running", StartedAt: Seconds(p.started), Cwd: wire.Text(p.cwd),
		User: wire.Text(p.user), Tag: p.spec.Tag, Pty: p.spec.Pty != nil,
		StdoutBytes: int64(stdout), StderrBytes: int64(stderr),
	}
	if p.child != nil {
		info.Pid = p.child.Pid
	}
	if p.ended {
		p.addEnd(&info)
	}
	return info
}

func (p *Process) addEnd(info *wire.ProcessInfo) {
	code := p.exitCode
	info.State, info.ExitCode, info.Usage = "exited", &code, &wire.Usage{}
	if p.signal != 0 {
		signal := p.signal
		info.Signal = &signal
	}
	if p.problems {
		problem := wire.Text(p.problem)
		info.Error = &problem
	}
	if p.limit != "" {
		limit := p.limit
		info.LimitHit = &limit
	}
	if p.exit != nil {
		*info.Usage = receipt(p.exit, p.started)
	}
	info.Usage.OutputBytes = info.StdoutBytes + info.StderrBytes
}

func receipt(exit *reaper.Exit, started time.Time) wire.Usage {
	cpu := time.Duration(exit.Usage.Utime.Nano() + exit.Usage.Stime.Nano())
	return wire.Usage{CPUSeconds: cpu.Seconds(), WallSeconds: exit.At.Sub(started).Seconds(),
		PeakMemoryBytes: exit.Usage.Maxrss * 1024}
}

// Seconds is a time as the wire writes it: UTC seconds since the epoch.
func Seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// supervise lives as long as the process: it collects the end and says when the output is complete.
func (p *Process) supervise() {
	exit := <-p.exited
	p.over.Store(true)
	<-p.settled
	p.mu.Lock()
	p.exit = &exit
	for _, timer := range p.timers {
		timer.Stop()
	}
	p.mu.Unlock()
	p.stdin.close()
	p.io.drain(drainGrace)
	p.conclude(exit)
}

func (p *Process) conclude(exit reaper.Exit) {
	code, signal := exit.Status.ExitStatus(), 0
	if exit.Status.Signaled() {
		signal = int(exit.Status.Signal())
		code = 128 + signal
	}
	p.mu.Lock()
	if p.limit == "" && !p.problems && code != 0 {
		p.limit = p.diagnose(code)
	}
	switch p.limit {
	case "timeout":
		code = 124
	case "output":
		code = 137
	}
	p.exitCode, p.signal, p.ended = code, signal, true
	p.mu.Unlock()
	p.finish()
}

// finish is the last step of every process, also of one that never ran. Whoever sees the log's end must find the
// process ended, hence the order.
func (p *Process) finish() {
	close(p.done)
	p.Log.Finish()
	p.manager.Prune()
	p.manager.tidyLater()
}

// fail ends a process that could not be started.
func (p *Process) fail(code int, message, limit string) {
	p.mu.Lock()
	p.exitCode, p.problem, p.problems, p.limit, p.ended = code, message, true, limit, true
	p.mu.Unlock()
	p.finish()
}

// blame records why a child ended that never became the command.
func (p *Process) blame(message string, errno syscall.Errno) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problem, p.problems = message, true
	if errno == syscall.EAGAIN {
		p.limit = "pids"
	}
}
