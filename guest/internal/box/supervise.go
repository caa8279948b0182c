package box

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"cloche/guest/internal/sys"
)

const (
	namespaces = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
		syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	lastCapability = 40
	reportFD       = 1
)

// Ready is the line on standard output once the guest has been started; the node closes its end after it.
type Ready struct {
	OK            bool        `json:"ok"`
	Failure       *StageError `json:"failure,omitempty"`
	SupervisorPid int         `json:"supervisor_pid"`
	InitPid       int         `json:"init_pid"`
	Nonce         string      `json:"nonce"`
	FirstID       int         `json:"first_id"`
	LandlockABI   int         `json:"landlock_abi"`
}

// SuperviseMain makes a box from the plan on standard input and stays with it to its end. Exit status 0 once the end was
// written down, 1 when the box could not be made (and nothing of it is left).
func SuperviseMain() {
	// the parent-death signal of the box hangs on the thread that made it
	runtime.LockOSThread()
	s := &supervisor{}
	if err := s.start(); err != nil {
		s.undo()
		s.sayReady(Ready{Failure: err.(*StageError)})
		os.Exit(1)
	}
	s.sayReady(Ready{OK: true, SupervisorPid: os.Getpid(), InitPid: s.pid, Nonce: s.nonce, FirstID: s.firstID, LandlockABI: s.abi})
	s.quiet()
	s.watch()
	os.Exit(0)
}

type supervisor struct {
	plan     Plan
	nonce    string
	firstID  int
	idLock   int
	pid      int
	pidfd    int
	abi      int
	listen   int
	control  int
	sync     int
	lifeline int
	upFD     int
	events   int
	deadline float64
	ending   ending
	exit     *Exit // how PID 1 has ended, once it has
}

func (s *supervisor) sayReady(r Ready) {
	body, _ := json.Marshal(r)
	_, _ = syscall.Write(reportFD, append(body, '\n'))
}

// quiet gives the node's pipes back, so the node sees their end and its death cannot hurt here.
func (s *supervisor) quiet() {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_ = syscall.Dup3(null, 0, 0)
	_ = syscall.Dup3(null, reportFD, 0)
	_ = syscall.Close(null)
}

func (s *supervisor) start() error {
	s.upFD, s.events, s.idLock = -1, -1, -1
	// the kernel takes a millisecond for the namespaces and another for the child's start: enough to prepare the rest
	prepared := make(chan error, 1)
	go func() { prepared <- s.prepare() }()
	doc, cloned := s.spawn()
	if err := <-prepared; cloned == nil && err != nil {
		return err
	}
	if cloned != nil {
		return cloned
	}
	if err := s.release(doc); err != nil {
		return err
	}
	return s.finishStart()
}

// prepare does what needs no child: everything that the plan names outside of the box.
func (s *supervisor) prepare() error {
	if err := json.NewDecoder(os.Stdin).Decode(&s.plan); err != nil {
		return stage("read plan", err)
	}
	s.deadline = s.plan.Deadline
	s.nonce = newNonce()
	if err := s.openSockets(); err != nil {
		return err
	}
	if err := makeCgroups(s.plan.Cgroups); err != nil {
		return err
	}
	if s.plan.MemoryEvents != "" {
		// the guest reads the kernel's count of out-of-memory kills through this descriptor; nothing else of the cgroup
		// tree is visible to it
		s.events, _ = syscall.Open(s.plan.MemoryEvents, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	}
	return s.chooseIDs()
}

func newNonce() string {
	raw := make([]byte, 16)
	for filled := 0; filled < len(raw); {
		n, _ := sys.Getrandom(raw[filled:])
		filled += n
	}
	return hex.EncodeToString(raw)
}

// openSockets binds by names relative to the run directory: those are all that getsockname can tell from inside.
func (s *supervisor) openSockets() error {
	if err := syscall.Chdir(s.plan.RunDir); err != nil {
		return stage("run directory", err)
	}
	syscall.Umask(0o177)
	var err error
	if s.listen, err = listenUnix("guest.sock", 512); err != nil {
		return stage("guest socket", err)
	}
	if s.control, err = listenUnix("control.sock", 16); err != nil {
		return stage("control socket", err)
	}
	return nil
}

func listenUnix(name string, backlog int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = syscall.Unlink(name)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}); err != nil {
		return -1, err
	}
	return fd, syscall.Listen(fd, backlog)
}

// spawn clones this program into new namespaces and returns the writing end of the pipe on which the child waits for its
// document. The capabilities it keeps over its exec (as ambient ones) are over the new user namespace only.
func (s *supervisor) spawn() (int, error) {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, stage("/dev/null", err)
	}
	defer syscall.Close(null)
	syncPair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, stage("sync socket", err)
	}
	defer syscall.Close(syncPair[1])
	var doc, lifeline [2]int
	if err := syscall.Pipe2(doc[:], syscall.O_CLOEXEC); err != nil {
		return -1, stage("pipe", err)
	}
	defer syscall.Close(doc[0])
	if err := syscall.Pipe2(lifeline[:], syscall.O_CLOEXEC); err != nil {
		return -1, stage("pipe", err)
	}
	defer syscall.Close(lifeline[0])
	s.sync, s.lifeline = syncPair[0], lifeline[1]
	return doc[1], s.clone([]uintptr{uintptr(null), 2, 2, uintptr(doc[0]), uintptr(syncPair[1]), uintptr(lifeline[0])})
}

// lend lists what the child gets beside its document. As root the sources of binds are opened here, because the box's
// own id may not even walk to them; open_tree gives the child that one tree and no way to anything beside it.
func (s *supervisor) lend(doc *initDoc) ([]int, error) {
	lent := []int{s.listen}
	add := func(fd int) int {
		lent = append(lent, fd)
		return len(lent) - 1
	}
	if s.plan.Restore != "" {
		fd, err := syscall.Open(s.plan.Restore, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		if err != nil {
			return lent, stage("open saved disk", err)
		}
		doc.Restore = add(fd)
	}
	if s.events >= 0 {
		doc.MemoryEvents = add(s.events)
	}
	if os.Geteuid() != 0 {
		return lent, nil
	}
	trees, err := openTrees(s.plan.Binds)
	for _, tree := range trees {
		place := -1
		if tree >= 0 {
			place = add(tree)
		}
		doc.Trees = append(doc.Trees, place)
	}
	return lent, err
}

func (s *supervisor) clone(files []uintptr) error {
	caps := make([]uintptr, lastCapability+1)
	for i := range caps {
		caps[i] = uintptr(i)
	}
	attr := &syscall.ProcAttr{Files: files, Env: []string{}, Sys: &syscall.SysProcAttr{
		Cloneflags: namespaces, AmbientCaps: caps, Setsid: true, Pdeathsig: syscall.SIGKILL}}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"cloche-init"}, attr)
	if err != nil {
		return stage("make namespaces", err)
	}
	s.pid = pid
	s.pidfd, err = sys.PidfdOpen(pid)
	return stage("pidfd", err)
}

// release lets the child go on: not before its ids are mapped and it sits in its cgroups, so nothing of it ever runs
// outside its limits.
func (s *supervisor) release(pipe int) error {
	out := os.NewFile(uintptr(pipe), "doc")
	defer out.Close()
	doc := initDoc{Plan: s.plan, Nonce: s.nonce, Restore: -1, MemoryEvents: -1}
	lent, err := s.lend(&doc)
	defer s.takeBack(lent)
	if err != nil {
		return err
	}
	if err := s.mapIDs(); err != nil {
		return err
	}
	if err := enterCgroups(s.plan.Cgroups, s.pid); err != nil {
		return err
	}
	doc.Lent = len(lent)
	if err := json.NewEncoder(out).Encode(doc); err != nil {
		return stage("send plan", err)
	}
	return stage("send descriptors", sendDescriptors(s.sync, lent))
}

// takeBack closes what was lent, but for what the supervisor itself uses.
func (s *supervisor) takeBack(lent []int) {
	for _, fd := range lent {
		if fd != s.listen && fd != s.events {
			_ = syscall.Close(fd)
		}
	}
}

// finishStart reads the child's reports until its end of the socket closes, which its exec of the guest does.
func (s *supervisor) finishStart() error {
	ok := false
	for {
		body, fds, err := receive(s.sync)
		if err != nil {
			return stage("start guest", err)
		}
		if len(fds) > 0 {
			s.upFD = fds[0]
		}
		if len(body) == 0 {
			break
		}
		var r initReport
		if err := json.Unmarshal(body, &r); err != nil {
			return stage("start guest", err)
		}
		if r.Failure != nil {
			return r.Failure
		}
		ok = ok || r.OK
		s.abi = r.LandlockOf
	}
	if !ok {
		return stagef("start guest", "the box ended before the guest was started")
	}
	return stage("write state", s.writeState())
}

func (s *supervisor) writeState() error {
	return writeJSON("supervisor.json", map[string]any{
		"sandbox_id": s.plan.SandboxID, "nonce": s.nonce, "supervisor_pid": os.Getpid(), "init_pid": s.pid,
		"first_id": s.firstID, "started_at": float64(time.Now().UnixMilli()) / 1000,
	})
}

func writeJSON(name string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	temporary := name + ".new." + strconv.Itoa(os.Getpid())
	_ = syscall.Unlink(temporary)
	if err := writeNew(temporary, string(body), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, name)
}

// undo takes away a half-made box: its processes first, then what they sat in.
func (s *supervisor) undo() {
	if s.pid > 0 {
		_ = syscall.Kill(s.pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(s.pid, nil, 0, nil)
	}
	removeCgroups(s.plan.Cgroups)
	_ = syscall.Unlink("guest.sock")
	_ = syscall.Unlink("control.sock")
}
