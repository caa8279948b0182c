package box

import (
	"encoding/json"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"cloche/guest/internal/landlock"
	"cloche/guest/internal/redirect"
	"cloche/guest/internal/seccomp"
	"cloche/guest/internal/sys"
)

// Descriptors that the supervisor leaves open for the init process, in this order.
const (
	docFD = 3 + iota
	syncFD
	lifelineFD
)

const (
	// bound here: a path inside is needed because Landlock refuses files of a mount that was taken away
	guestInside = "/.cloche/guest"
	keyctlJoin  = 1
)

// initDoc is what the supervisor sends once the ids are mapped; its arrival is the sign to go on. The plan came before.
type initDoc struct {
	Nonce string `json:"nonce"`
	// descriptors come after the document, the log first. The numbers are places among them, -1 for none.
	Lent         int   `json:"lent"`
	Listen       int   `json:"listen"`
	Given        []int `json:"given"` // what a program gets, in the order of its numbers
	Trees        []int `json:"trees"`
	Tasks        []int `json:"tasks"` // the cgroups that this process enters by itself
	Restore      int   `json:"restore"`
	MemoryEvents int   `json:"memory_events"`

	plan                        Plan
	listen, restoreFD, memoryFD int
	given, trees, tasks         []int
	refusals                    int   // tells the guest what the kernel refuses in here; -1 for none
	redirection                 error // why there is none
}

// awaitRelease reads the plan, and waits until the supervisor says that this process is where it belongs. Until then it
// does nothing else: its ids are not mapped and it sits in no cgroup.
func (d *initDoc) awaitRelease() error {
	learnPlans()
	raw, err := io.ReadAll(os.NewFile(docFD, "doc"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &d.plan); err != nil {
		return err
	}
	body, _, err := receive(syncFD)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, d)
}

// take receives the descriptors and puts them where the places were.
func (d *initDoc) take() error {
	lent, err := takeDescriptors(syncFD, d.Lent)
	if err != nil {
		return err
	}
	at := func(place int) int {
		if place < 0 {
			return -1
		}
		return lent[place]
	}
	d.listen, d.restoreFD, d.memoryFD = at(d.Listen), at(d.Restore), at(d.MemoryEvents)
	for _, standard := range []int{1, 2} {
		if err := syscall.Dup3(lent[0], standard, 0); err != nil {
			return err
		}
	}
	for _, place := range d.Given {
		d.given = append(d.given, at(place))
	}
	for _, place := range d.Trees {
		d.trees = append(d.trees, at(place))
	}
	for _, place := range d.Tasks {
		d.tasks = append(d.tasks, at(place))
	}
	return nil
}

type initReport struct {
	OK         bool        `json:"ok"`
	Failure    *StageError `json:"failure,omitempty"`
	LandlockOf int         `json:"landlock_abi"`
	// why programs that know no proxy reach nobody; empty when they do
	NotRedirected string `json:"not_redirected"`
	TellsRefused  bool   `json:"tells_refused"`
}

// InitMain runs as PID 1 of the new namespaces and becomes the guest, or the plan's program. It never returns.
//
// It holds every capability, but only over its own user namespace: on the host it is an ordinary process of an
// unprivileged id, so nothing it does here can reach what that id could not.
func InitMain() {
	// ids, cgroups, capabilities, Landlock and seccomp are a thread's; execve keeps the thread that calls it
	runtime.LockOSThread()
	syscall.CloseOnExec(syncFD)
	var doc initDoc
	if err := doc.awaitRelease(); err != nil {
		os.Exit(1)
	}
	err := stage("receive descriptors", doc.take())
	if err == nil {
		err = build(&doc)
	}
	if err == nil {
		err = become(&doc)
	}
	report(initReport{Failure: err.(*StageError)})
	os.Exit(1)
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func report(r initReport, fds ...int) {
	body, _ := json.Marshal(r)
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	_ = syscall.Sendmsg(syncFD, body, rights, nil, 0)
}

func build(doc *initDoc) error {
	plan := &doc.plan
	// first of all: from here on it lives within its limits
	if err := enterByTasks(doc.tasks); err != nil {
		return err
	}
	if !plan.IDs.Shared() {
		// root of the namespace builds, whoever is to live there
		if err := sys.SetIds(0, 0, nil); err != nil {
			return stage("take ids", err)
		}
	}
	// only now is this process in its own cgroup, which becomes the root that it can see
	if err := syscall.Unshare(syscall.CLONE_NEWCGROUP); err != nil {
		return stage("cgroup namespace", err)
	}
	syscall.Umask(0)
	if err := syscall.Sethostname([]byte(plan.Hostname)); err != nil {
		return stage("hostname", err)
	}
	if err := sys.LoopbackUp(); err != nil {
		return stage("loopback", err)
	}
	doc.refusals = -1
	if plan.Program == nil {
		// a kernel that cannot is no reason to have no sandbox: programs that know a proxy work, and the guest says so
		doc.refusals, doc.redirection = redirect.Install()
	}
	return makeRoot(doc)
}

func become(doc *initDoc) error {
	plan := &doc.plan
	if err := ownKeyring(); err != nil {
		return stage("session keyring", err)
	}
	syscall.Umask(0o022)
	image, err := imageOf(doc)
	if err != nil {
		return stage("descriptors", err)
	}
	if err := dropRights(plan); err != nil {
		return err
	}
	abi, err := landlock.Apply(plan.Landlock)
	if err != nil {
		return stage("landlock", err)
	}
	if plan.Program == nil {
		image.env = append(image.env, "CLOCHE_LANDLOCK_ABI="+strconv.Itoa(abi))
	}
	// after every change of ids, because those clear it
	if err := sys.DieWithParent(); err != nil {
		return stage("parent death signal", err)
	}
	report(initReport{OK: true, LandlockOf: abi, NotRedirected: textOf(doc.redirection), TellsRefused: doc.refusals >= 0})
	if err := seccomp.Apply(image.filter); err != nil {
		return stage("seccomp", err)
	}
	return stage("start guest", sys.Exec(image.path, image.argv, image.env))
}

// image is what this process becomes.
type image struct {
	path   string
	argv   []string
	env    []string
	filter []seccomp.Instruction
}

// imageOf also puts the descriptors where the image expects them. Nothing else of this process survives.
func imageOf(doc *initDoc) (image, error) {
	if err := sys.CloseRange(3, ^uint(0)>>1, sys.CloseRangeCloexec); err != nil {
		return image{}, err
	}
	if program := doc.plan.Program; program != nil {
		return image{program.Argv[0], program.Argv, program.environment(), program.filter()}, program.place(doc.given)
	}
	env, err := passDescriptors(doc)
	return image{guestInside, []string{"cloche-guest"}, env, seccomp.Program(doc.plan.IDs.Shared())}, err
}

// dropRights takes everything away that the image may not have: ids first, as only they need capabilities.
func dropRights(plan *Plan) error {
	if err := sys.DropBounding(plan.GuestCaps...); err != nil {
		return stage("bounding set", err)
	}
	if err := takeIDs(&plan.IDs); err != nil {
		return stage("take ids", err)
	}
	// of the ids that it has now
	if err := limitProcesses(plan); err != nil {
		return stage("pids limit", err)
	}
	if err := limitQueues(); err != nil {
		return stage("limits", err)
	}
	if err := plan.Program.limitFiles(); err != nil {
		return stage("limit of files", err)
	}
	if err := sys.SetCaps(plan.GuestCaps...); err != nil {
		return stage("capabilities", err)
	}
	return stage("no new privileges", sys.NoNewPrivileges())
}

// takeIDs: the kernel takes the capabilities of a root that becomes somebody else, unless it is asked not to.
func takeIDs(ids *IDs) error {
	if ids.Shared() || (ids.UID == 0 && ids.GID == 0) {
		return nil
	}
	if err := sys.KeepCaps(); err != nil {
		return err
	}
	return sys.SetIds(ids.UID, ids.GID, nil)
}

// limitNamespace bounds what the kernel counts per user namespace. New user namespaces are refused by seccomp as well;
// this holds even for a call that the filter would miss. Inotify instances count for the owner of the namespace too: one
// box could use up those of its owner, and no program of theirs on the host could watch a file. It is written through the
// box's own /proc: the host's remembers these names for every namespace there is, and looks through all of them.
func limitNamespace(proc string) {
	for name, most := range map[string]string{"user_namespaces": "0", "inotify_instances": "48", "inotify_watches": "65536"} {
		_ = writeControl(proc+"/sys/user/max_"+name, most)
	}
}

// limitQueues lowers what is charged to the owner of the namespace as well, and priorities that the owner may have been
// given by the system's configuration. A limit that is lower already stays.
func limitQueues() error {
	const core, memlock, sigpending, msgqueue, nice, rtprio = 4, 8, 11, 12, 13, 14
	// 1, not 0: a core_pattern that pipes runs its program for a limit of 0, as root of the host, and not for 1
	// (fs/coredump.c). Where the caller may not dump at all it stays at that.
	_ = syscall.Setrlimit(core, &syscall.Rlimit{Cur: 1, Max: 1})
	most := map[int]uint64{memlock: 64 << 20, sigpending: 4096, msgqueue: 256 << 10, nice: 0, rtprio: 0}
	for which, value := range most {
		var now syscall.Rlimit
		if err := syscall.Getrlimit(which, &now); err != nil {
			return err
		}
		if now.Max <= value {
			continue
		}
		if err := syscall.Setrlimit(which, &syscall.Rlimit{Cur: min(now.Cur, value), Max: value}); err != nil {
			return err
		}
	}
	return nil
}

// limitProcesses: RLIMIT_NPROC counts per id and user namespace, so it holds without any cgroup. The guest itself gets
// headroom, or a fork bomb of the same id would keep it from starting threads.
func limitProcesses(plan *Plan) error {
	const rlimitNproc = 6
	value := plan.Pids
	if plan.Program == nil {
		value += 256
	}
	return syscall.Setrlimit(rlimitNproc, &syscall.Rlimit{Cur: value, Max: value})
}

func passDescriptors(doc *initDoc) ([]string, error) {
	env := []string{"CLOCHE_NONCE=" + doc.Nonce, "CLOCHE_SANDBOX_ID=" + doc.plan.SandboxID}
	if doc.plan.IDs.Shared() {
		env = append(env, "CLOCHE_SHARED_UID=1")
	}
	if doc.redirection == nil {
		env = append(env, redirect.Environment)
	}
	for key, value := range doc.plan.GuestEnv {
		env = append(env, key+"="+value)
	}
	kept := map[string]int{"CLOCHE_LISTEN_FD": doc.listen, "CLOCHE_LIFELINE_FD": lifelineFD,
		"CLOCHE_MEMORY_EVENTS_FD": doc.memoryFD, "CLOCHE_SOCKETS_FD": socketsFD(), "CLOCHE_REFUSALS_FD": doc.refusals}
	for name, fd := range kept {
		if fd < 0 {
			continue
		}
		if _, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, 0); e != 0 {
			return nil, e
		}
		env = append(env, name+"="+strconv.Itoa(fd))
	}
	return env, nil
}

// ownKeyring leaves the caller's session keyring. Key calls are refused by seccomp too, so running out of the host
// user's key quota is no reason to fail.
func ownKeyring() error {
	_, _, e := syscall.Syscall(syscall.SYS_KEYCTL, keyctlJoin, 0, 0)
	if e != 0 && e != syscall.ENOSYS && e != syscall.EDQUOT {
		return e
	}
	return nil
}
