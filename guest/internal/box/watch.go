package box

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"cloche/guest/internal/sys"
)

const controlTimeout = 5 * time.Second

type ending struct {
	reason   string
	keepDisk bool
	asked    bool // somebody asked to keep the disk
	given    bool // somebody asked to end it without
	waiting  []int
}

// Exit is exit.json, the last thing that a supervisor writes.
type Exit struct {
	SandboxID string  `json:"sandbox_id"`
	Nonce     string  `json:"nonce"`
	ExitCode  int     `json:"exit_code"`
	Reason    string  `json:"reason"`
	EndedAt   float64 `json:"ended_at"`
	DiskSaved bool    `json:"disk_saved"`
	DiskError string  `json:"disk_error,omitempty"`
	Console   string  `json:"console,omitempty"` // the last words of the plan's program

	initPid int
}

// Killed is the reason of whoever takes the box away with its run directory: nobody will read there how it has ended.
const Killed = "killed"

func now() float64 { return float64(time.Now().UnixNano()) / 1e9 }

// watch serves the control socket, the console and the deadline until the box has ended.
func (s *supervisor) watch() {
	for {
		fds := []sys.PollFd{{Fd: int32(s.pidfd), Events: sys.PollIn}, {Fd: int32(s.control), Events: sys.PollIn},
			{Fd: int32(s.owner), Events: sys.PollIn}}
		console, due := s.console.due()
		if console {
			fds = append(fds, sys.PollFd{Fd: int32(s.console.fd), Events: sys.PollIn})
		}
		if _, err := sys.Poll(fds, sooner(due, s.untilDeadline())); err != nil {
			break
		}
		if fds[0].Revents != 0 {
			break
		}
		if fds[1].Revents != 0 {
			s.answer()
		}
		if fds[2].Revents != 0 {
			s.disown()
			s.end(Killed)
		}
		if console && fds[3].Revents != 0 {
			s.console.read()
		}
		if s.deadline > 0 && now() >= s.deadline {
			s.end("expired")
		}
	}
	s.finish()
}

// sooner of two numbers of milliseconds, of which a negative one means never.
func sooner(a, b int64) int64 {
	if a < 0 || b < 0 {
		return max(a, b)
	}
	return min(a, b)
}

// disown: from now on the box lives without whoever it was made for. Poll leaves out a negative descriptor.
func (s *supervisor) disown() {
	if s.owner >= 0 {
		_ = syscall.Close(s.owner)
		s.owner = -1
	}
}

func (s *supervisor) untilDeadline() int64 {
	if s.deadline <= 0 || s.ending.reason != "" {
		return -1
	}
	return max(0, int64((s.deadline-now())*1000)+1)
}

// end kills PID 1 of the box; the kernel then kills everything else in its pid namespace. A frozen box is thawed, or the
// kill would wait for ever.
func (s *supervisor) end(reason string) {
	if s.ending.reason == "" {
		s.ending.reason = reason
	}
	s.deadline = 0
	if s.exit != nil {
		return
	}
	_ = sys.PidfdSendSignal(s.pidfd, syscall.SIGKILL)
	if s.plan.Freezer != nil {
		_ = freezeBox(s.plan.Freezer, false)
	}
}

type request struct {
	Op       string  `json:"op"`
	Deadline float64 `json:"deadline"`
	Reason   string  `json:"reason"`
	KeepDisk bool    `json:"keep_disk"`
}

type reply struct {
	OK        bool    `json:"ok"`
	Error     string  `json:"error,omitempty"`
	Nonce     string  `json:"nonce"`
	Pid       int     `json:"supervisor_pid"`
	InitPid   int     `json:"init_pid"`
	Deadline  float64 `json:"deadline"`
	OOMKills  int     `json:"oom_kills"`
	DiskBytes int64   `json:"disk_bytes"`
	DiskLimit int64   `json:"disk_limit_bytes"`
	Console   *string `json:"console,omitempty"`
	Exit      *Exit   `json:"exit,omitempty"`
}

// answer serves one request. The run directory is 0700, and the peer must be this user or root all the same.
func (s *supervisor) answer() {
	fd, _, err := syscall.Accept4(s.control, syscall.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	credentials, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil || (credentials.Uid != 0 && int(credentials.Uid) != os.Geteuid()) {
		_ = syscall.Close(fd)
		return
	}
	timeout := syscall.NsecToTimeval(controlTimeout.Nanoseconds())
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout)
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &timeout)
	var r request
	buf := make([]byte, 4096)
	n, err := unbroken(func() (int, error) { return syscall.Read(fd, buf) })
	if err != nil || n <= 0 || json.Unmarshal(buf[:n], &r) != nil {
		s.send(fd, reply{Error: "bad request"})
		return
	}
	if r.Op == "end" {
		s.ending.keepDisk = s.ending.keepDisk || r.KeepDisk
		s.ending.asked = s.ending.asked || r.KeepDisk
		s.ending.given = s.ending.given || !r.KeepDisk
		s.ending.waiting = append(s.ending.waiting, fd)
		s.end(r.Reason)
		return
	}
	s.send(fd, s.handle(&r))
}

// unbroken tries again after a signal. The kernel does not do it by itself on a socket with a time limit, and Go's runtime
// signals its own threads at any moment.
func unbroken(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func (s *supervisor) handle(r *request) reply {
	var err error
	switch r.Op {
	case "status":
	case "deadline":
		s.deadline = r.Deadline
	case "disown":
		s.disown()
	case "console":
		if s.console == nil {
			return reply{Error: "no console"}
		}
		// also what came since it rests
		s.console.take()
		r := s.state()
		said := s.console.last(consoleKept)
		r.Console = &said
		return r
	case "freeze", "thaw":
		if s.plan.Freezer == nil {
			return reply{Error: "no freezer"}
		}
		err = freezeBox(s.plan.Freezer, r.Op == "freeze")
	default:
		return reply{Error: "unknown op"}
	}
	if err != nil {
		return reply{Error: err.Error()}
	}
	return s.state()
}

func (s *supervisor) state() reply {
	r := reply{OK: true, Nonce: s.nonce, Pid: os.Getpid(), InitPid: s.pid, Deadline: s.deadline, OOMKills: oomKills(s.events),
		Exit: s.exit}
	var st syscall.Statfs_t
	if s.upFD >= 0 && syscall.Fstatfs(s.upFD, &st) == nil {
		r.DiskLimit = int64(st.Blocks) * st.Bsize
		r.DiskBytes = int64(st.Blocks-st.Bfree) * st.Bsize
	}
	return r
}

func (s *supervisor) send(fd int, r reply) {
	body, _ := json.Marshal(r)
	_, _ = unbroken(func() (int, error) { return syscall.Write(fd, append(body, '\n')) })
	_ = syscall.Close(fd)
}

// finish writes down how the box ended, after its disk was kept and before its groups go: whoever sees exit.json sees a
// box of which no process is left.
func (s *supervisor) finish() {
	var status syscall.WaitStatus
	_, _ = syscall.Wait4(s.pid, &status, 0, nil)
	if s.plan.Program == nil && s.ending.reason == "" && status.Exited() && status.ExitStatus() == 0 {
		// the guest was asked to shut down and has: whoever asked wants to come back to the disk
		s.ending.reason, s.ending.keepDisk = "stopped", true
	}
	exit := Exit{SandboxID: s.plan.SandboxID, Nonce: s.nonce, ExitCode: exitCode(status), Reason: s.reason(status), EndedAt: now(),
		initPid: s.pid}
	if s.console != nil {
		s.console.drain()
		exit.Console = s.console.last(consoleInExit)
	}
	s.exit = &exit
	s.keep(&exit)
	removeCgroups(s.plan.Cgroups)
	for _, name := range s.plan.sockets() {
		_ = syscall.Unlink(name)
	}
	if s.ending.reason != Killed || s.ending.keepDisk {
		// whoever wants the host's directories back that were mounted finds them free; else they are a moment later
		s.letMountsGo()
		_ = writeJSON("exit.json", exit)
	}
	_ = syscall.Unlink("control.sock")
	// whoever has connected until then still gets an answer; nobody new can
	for s.asked(0) {
		s.answer()
	}
	for _, fd := range s.ending.waiting {
		s.send(fd, reply{OK: true, Nonce: s.nonce, Pid: os.Getpid(), InitPid: exit.initPid, Exit: &exit})
	}
	_ = syscall.Close(s.control)
}

// keep saves the disk when that is wanted. A program's disks are files of the host, which are there in any case.
func (s *supervisor) keep(exit *Exit) {
	if !s.ending.keepDisk {
		return
	}
	if s.plan.Program == nil {
		if err := s.saveDisk(); err != nil {
			exit.DiskError = err.Error()
			return
		}
	}
	exit.DiskSaved = true
}

func (s *supervisor) letMountsGo() {
	if s.mounts >= 0 {
		_ = syscall.Close(s.mounts)
		s.mounts = -1
	}
}

// asked tells whether a request waits, after at most that many milliseconds.
func (s *supervisor) asked(timeout int64) bool {
	fds := []sys.PollFd{{Fd: int32(s.control), Events: sys.PollIn}}
	n, err := sys.Poll(fds, timeout)
	return err == nil && n > 0
}

func (s *supervisor) reason(status syscall.WaitStatus) string {
	switch {
	case s.ending.reason != "":
		return s.ending.reason
	case status != 0 && oomKills(s.events) > 0:
		return "out_of_memory"
	case s.plan.Program != nil:
		return "program_ended"
	}
	return "guest_died"
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// saveDisk runs the saver with the box's own ids in a user namespace of its own, never as the supervisor's user.
func (s *supervisor) saveDisk() error {
	temporary := s.plan.KeepDisk + ".new." + strconv.Itoa(os.Getpid())
	out, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := s.runSaver(out); err != nil {
		_ = os.Remove(temporary)
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return os.Rename(temporary, s.plan.KeepDisk)
}

func (s *supervisor) runSaver(out *os.File) error {
	docPipe := [2]int{}
	if err := syscall.Pipe2(docPipe[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	caps := []uintptr{sys.CapDacOverride, sys.CapFowner, sys.CapSetuid, sys.CapSetgid, sys.CapSetpcap}
	attr := &syscall.ProcAttr{Files: []uintptr{uintptr(docPipe[0]), 2, 2, uintptr(s.upFD), out.Fd()}, Env: []string{},
		Sys: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, AmbientCaps: caps, Pdeathsig: syscall.SIGKILL}}
	args := []string{"cloche-save"}
	if !s.plan.IDs.Shared() {
		args = append(args, "root")
	}
	pid, err := syscall.ForkExec("/proc/self/exe", args, attr)
	_ = syscall.Close(docPipe[0])
	if err != nil {
		_ = syscall.Close(docPipe[1])
		return err
	}
	s.pid = pid
	err = s.mapIDs()
	if err == nil {
		_, err = syscall.Write(docPipe[1], []byte{'g'})
	}
	_ = syscall.Close(docPipe[1])
	status := s.attend(pid)
	if err == nil && status != 0 {
		err = errors.New("the saver failed, see launcher.log")
	}
	return err
}

// attend waits for the saver and answers meanwhile. Saving stops when the only ones who ask do not want the disk.
func (s *supervisor) attend(pid int) (status syscall.WaitStatus) {
	saver, err := sys.PidfdOpen(pid)
	if err == nil {
		defer syscall.Close(saver)
	}
	for err == nil {
		fds := []sys.PollFd{{Fd: int32(saver), Events: sys.PollIn}, {Fd: int32(s.control), Events: sys.PollIn}}
		if _, err = sys.Poll(fds, -1); err != nil || fds[0].Revents != 0 {
			break
		}
		if fds[1].Revents != 0 {
			s.answer()
		}
		if s.ending.given && !s.ending.asked {
			_ = sys.PidfdSendSignal(saver, syscall.SIGKILL)
		}
	}
	_, _ = syscall.Wait4(pid, &status, 0, nil)
	return status
}
