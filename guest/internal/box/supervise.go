package box

import (
	"encoding/hex"
	"encoding/json"
	"io"
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
	NotRedirected string      `json:"not_redirected"`
	TellsRefused  bool        `json:"tells_refused"`
}

// SuperviseMain makes a box from the plan on standard input and stays with it to its end. Exit status 0 once the end was
// written down, 1 when the box could not be made (and nothing of it is left).
//
// It clones the box's first process before it has read a word, so it may be started before there is a plan (the node
// keeps one ready); when standard input ends without one, both end.
func SuperviseMain() {
	// the parent-death signal of the box hangs on the thread that made it
	runtime.LockOSThread()
	s := &supervisor{}
	if err := s.start(); err != nil {
		s.undo()
		s.sayReady(Ready{Failure: err.(*StageError)})
		os.Exit(1)
	}
	s.sayReady(Ready{OK: true, SupervisorPid: os.Getpid(), InitPid: s.pid, Nonce: s.nonce, FirstID: s.firstID, LandlockABI: s.abi,
		NotRedirected: s.alone, TellsRefused: s.tells})
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
	tells    bool   // the box's guest hears of what the kernel refuses there
	alone    string // why the box's programs that know no proxy reach nobody
	listen   int
	control  int
	sync     int
	lifeline int
	upFD     int
	events   int
	log      int
	given    []int // what the plan's program gets, in the order of its numbers
	console  *console
	mounts   int // the box's mount namespace, so that its mounts need not go before its end is known
	owner    int // pidfd of the plan's owner, -1 for none
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
	s.upFD, s.events, s.idLock, s.log, s.mounts, s.listen, s.owner = -1, -1, -1, -1, -1, -1, -1
	var doc [2]int
	if err := syscall.Pipe2(doc[:], syscall.O_CLOEXEC); err != nil {
		return stage("pipe", err)
	}
	// the kernel takes a millisecond for the namespaces and another for the child's start: enough to prepare the rest
	prepared := make(chan error, 1)
	go func() { prepared <- s.prepare(doc[1]) }()
	cloned := s.spawn(doc[0])
	_ = syscall.Close(doc[0])
	if err := <-prepared; cloned == nil && err != nil {
		return err
	}
	if cloned != nil {
		return cloned
	}
	if err := s.release(); err != nil {
		return err
	}
	return s.finishStart()
}

// prepare does what needs no child: everything that the plan names outside of the box. The child gets the plan as it came
// and reads it meanwhile.
func (s *supervisor) prepare(child int) error {
	raw, err := s.readPlan(child)
	_ = syscall.Close(child)
	if err != nil {
		return stage("read plan", err)
	}
	if err := json.Unmarshal(raw, &s.plan); err != nil {
		return stage("read plan", err)
	}
	if err := s.plan.Program.check(); err != nil {
		return err
	}
	s.deadline = s.plan.Deadline
	if s.plan.Owner > 0 {
		if s.owner, err = sys.PidfdOpen(s.plan.Owner); err != nil {
			return stage("owner", err)
		}
	}
	s.nonce = newNonce()
	if err := s.openFiles(); err != nil {
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

func (s *supervisor) readPlan(child int) ([]byte, error) {
	learnPlans()
	raw, err := io.ReadAll(os.Stdin)
	if err == nil && len(raw) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = writeAll(child, raw)
	}
	return raw, err
}

func newNonce() string {
	raw := make([]byte, 16)
	for filled := 0; filled < len(raw); {
		n, _ := sys.Getrandom(raw[filled:])
		filled += n
	}
	return hex.EncodeToString(raw)
}

// openFiles makes what is in the run directory. Sockets are bound by names relative to it: those are all that getsockname
// can tell from inside.
func (s *supervisor) openFiles() error {
	err := syscall.Chdir(s.plan.RunDir)
	if err != nil {
		return stage("run directory", err)
	}
	syscall.Umask(0o177)
	if s.log, err = syscall.Open("launcher.log", syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND|syscall.O_CLOEXEC, 0o600); err != nil {
		return stage("log", err)
	}
	if err = syscall.Dup3(s.log, 2, 0); err != nil {
		return stage("log", err)
	}
	if s.plan.Program != nil {
		err = s.openGiven(s.plan.Program)
	} else {
		s.listen, err = listenUnix("guest.sock", 512)
		err = stage("guest socket", err)
	}
	if err != nil {
		return err
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

// spawn clones this program into new namespaces. The child waits until it is released. The capabilities it keeps over its
// exec (as ambient ones) are over the new user namespace only.
func (s *supervisor) spawn(doc int) error {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return stage("/dev/null", err)
	}
	defer syscall.Close(null)
	syncPair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return stage("sync socket", err)
	}
	defer syscall.Close(syncPair[1])
	var lifeline [2]int
	if err := syscall.Pipe2(lifeline[:], syscall.O_CLOEXEC); err != nil {
		return stage("pipe", err)
	}
	defer syscall.Close(lifeline[0])
	s.sync, s.lifeline = syncPair[0], lifeline[1]
	return s.clone([]uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(doc), uintptr(syncPair[1]), uintptr(lifeline[0])})
}

// lend lists what the child gets beside its document. As root the sources of binds are opened here, because the box's
// own id may not even walk to them; open_tree gives the child that one tree and no way to anything beside it.
func (s *supervisor) lend(doc *initDoc) ([]int, error) {
	lent := []int{s.log}
	add := func(fd int) int {
		lent = append(lent, fd)
		return len(lent) - 1
	}
	if s.listen >= 0 {
		doc.Listen = add(s.listen)
	}
	for _, fd := range s.given {
		doc.Given = append(doc.Given, add(fd))
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
	files, err := openTasks(s.plan.Cgroups)
	for _, fd := range files {
		doc.Tasks = append(doc.Tasks, add(fd))
	}
	if err != nil {
		return lent, err
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
	attr := &syscall.ProcAttr{Files: files, Env: []string{"GOMAXPROCS=1"}, Sys: &syscall.SysProcAttr{
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
func (s *supervisor) release() error {
	doc := initDoc{Nonce: s.nonce, Listen: -1, Restore: -1, MemoryEvents: -1}
	lent, err := s.lend(&doc)
	defer s.takeBack(lent)
	if err != nil {
		return err
	}
	if err := s.mapIDs(); err != nil {
		return err
	}
	s.mounts, _ = syscall.Open("/proc/"+strconv.Itoa(s.pid)+"/ns/mnt", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if len(doc.Tasks) == 0 {
		if err := enterCgroups(s.plan.Cgroups, s.pid); err != nil {
			return err
		}
	}
	doc.Lent = len(lent)
	body, err := json.Marshal(doc)
	if err == nil {
		err = syscall.Sendmsg(s.sync, body, nil, nil, 0)
	}
	if err != nil {
		return stage("release", err)
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
		s.abi, s.alone, s.tells = r.LandlockOf, r.NotRedirected, r.TellsRefused
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
	if s.plan.RunDir != "" {
		// by their whole names: this process may not have come as far as that directory
		for _, name := range append(s.plan.sockets(), "control.sock") {
			_ = syscall.Unlink(s.plan.RunDir + "/" + name)
		}
	}
}
