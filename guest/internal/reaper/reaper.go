// Package reaper waits for every child of the guest in one place, so that orphans are reaped and no status of a
// process that the guest started is lost.
package reaper

import (
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Exit is how a child ended.
type Exit struct {
	Status syscall.WaitStatus
	Usage  syscall.Rusage
	At     time.Time
}

// Child is a started process that has not been reaped. Its pid cannot be another process's as long.
type Child struct {
	Pid int
	// KillRest makes the reaper kill what is left of the process group when the leader has ended.
	KillRest bool
	onExit   func(Exit)
}

// Reaper owns the children of this process.
type Reaper struct {
	mu       sync.Mutex
	children map[int]*Child
	kick     chan struct{}
}

// New starts the one loop that waits.
func New() *Reaper {
	r := &Reaper{children: map[int]*Child{}, kick: make(chan struct{}, 1)}
	go r.loop()
	return r
}

// Start calls fork while no child can be reaped, so that one that ends at once is known before it is found dead.
// onExit is called once, on the reaper's goroutine, and must not block.
func (r *Reaper) Start(fork func() (int, error), onExit func(Exit)) (*Child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return nil, err
	}
	child := &Child{Pid: pid, onExit: onExit}
	r.children[pid] = child
	select {
	case r.kick <- struct{}{}:
	default:
	}
	return child, nil
}

// Signal sends to the child, or to its process group. ok is false when it has been reaped.
func (r *Reaper) Signal(c *Child, signal syscall.Signal, group bool) (ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[c.Pid] != c {
		return false, nil
	}
	if group {
		return true, syscall.Kill(-c.Pid, signal)
	}
	return true, syscall.Kill(c.Pid, signal)
}

// While calls f if the child has not been reaped, and nobody reaps it meanwhile: in f its pid is its own.
func (r *Reaper) While(c *Child, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[c.Pid] == c {
		f()
	}
}

// SetKillRest is for a child that was told to end: what it leaves behind in its group ends with it.
func (r *Reaper) SetKillRest(c *Child) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.KillRest = true
}

// Children is how many started processes have not ended.
func (r *Reaper) Children() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.children)
}

func (r *Reaper) loop() {
	for {
		pid, errno := nextDead()
		if errno == syscall.ECHILD {
			<-r.kick
			continue
		}
		if errno == 0 {
			r.reap(pid)
		}
	}
}

const (
	idAll  = 0
	exited = 4         // WEXITED
	noWait = 0x1000000 // WNOWAIT
	all    = 0x40000000
)

// nextDead blocks until some child has ended and leaves it a zombie.
func nextDead() (int, syscall.Errno) {
	var info [32]int32 // siginfo: signo, errno, code, (padding,) then pid
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, idAll, 0, uintptr(unsafe.Pointer(&info)), exited|noWait|all, 0, 0)
	return int(info[4]), errno
}

func (r *Reaper) reap(pid int) {
	r.mu.Lock()
	child := r.children[pid]
	if child != nil && child.KillRest {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	var exit Exit
	got, err := syscall.Wait4(pid, &exit.Status, syscall.WNOHANG|all, &exit.Usage)
	if err != nil || got != pid {
		r.mu.Unlock()
		return
	}
	delete(r.children, pid)
	r.mu.Unlock()
	if child != nil {
		exit.At = time.Now()
		child.onExit(exit)
	}
}
