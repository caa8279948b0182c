package execstep

import (
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

var stageNames = map[uint32]string{inSession: "session", inFiles: "descriptors", inTerminal: "terminal", inRlimit: "rlimit",
	inIDs: "setuid", inCwd: "chdir", inLookup: "lookup", inExecve: "execve"}

// Child is a process that is about to become the command.
type Child struct {
	Pid    int
	status *os.File
}

// Failure says why it has not: "session", "descriptors", "terminal", "rlimit", "setuid", "chdir", "lookup" (nothing of
// that name in PATH) or "execve".
type Failure struct {
	Stage string
	Errno syscall.Errno
}

// Start makes the child. The command's own descriptors stay open here, for the caller to close.
func (c *Command) Start() (*Child, error) {
	p, err := c.prepare()
	if err != nil {
		return nil, err
	}
	var status [2]int
	if err := syscall.Pipe2(status[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	p.files = append(p.files, uintptr(status[1]))
	pid, errno := fork(p)
	runtime.KeepAlive(p)
	_ = syscall.Close(status[1])
	if errno != 0 {
		_ = syscall.Close(status[0])
		return nil, errno
	}
	_ = syscall.SetNonblock(status[0], true)
	return &Child{Pid: pid, status: os.NewFile(uintptr(status[0]), "status")}, nil
}

// Outcome waits until the child has become the command (nil), has ended before it could (nil too: its status tells), or
// has said why not. Waiting takes no thread: user code may stop the child for ever. It must be called once.
func (c *Child) Outcome() *Failure {
	defer c.status.Close()
	var report [2]uint32
	bytes := (*[unsafe.Sizeof(report)]byte)(unsafe.Pointer(&report))[:]
	if _, err := io.ReadFull(c.status, bytes); err != nil {
		return nil
	}
	return &Failure{Stage: stageNames[report[0]], Errno: syscall.Errno(report[1])}
}
