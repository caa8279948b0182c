package execstep

import (
	"syscall"
	"unsafe"
)

// The child runs in a copy of the guest's memory, in which no other thread exists: whatever lock one of them held is held
// for ever. So it may only make system calls, on what was prepared: no allocation, no growing of the stack, no pointer
// stores. A shared memory (vfork) would save 0.3 ms and cost more than that: until it executes the command the
// child has the ids of user code, which could stop it there and the waiting guest with it, and a child that is killed for
// want of memory would take the guest along. A copy can be stopped and killed like any process. User code cannot read it:
// the memory is the guest's, which is not dumpable, and a change of ids keeps that so.

const (
	cannotExecute = 126
	notFound      = 127
	lastSignal    = 64
	clone3        = 435         // on every architecture
	intoGroup     = 0x200000000 // CLONE_INTO_CGROUP
	sigsetSize    = 8
	setMask       = 2   // SIG_SETMASK
	closeRange    = 436 // on every architecture
	capDrop       = 24  // PR_CAPBSET_DROP
	here          = -100
	maxFD         = ^uintptr(0) >> 32
)

// Stages in which the child can fail; 0 is none.
const (
	inSession = iota + 1
	inFiles
	inTerminal
	inRlimit
	inIDs
	inCwd
	inLookup
	inExecve
)

var (
	adjustmentPath = []byte("/proc/self/oom_score_adj\x00")
	noAction       [4]uint64
	noSignals      uint64
)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

// fork returns the child's pid to the guest, and to the child nothing: it becomes the command or ends.
//
//go:noinline
//go:norace
func fork(p *prepared) (int, syscall.Errno) {
	var report [2]uint32
	// signals wait from here on, so that no handler of the guest's ever runs in the child
	beforeFork()
	pid, errno := copied(p.group)
	if errno != 0 || pid != 0 {
		afterFork()
		return int(pid), errno
	}
	report[0], report[1] = become(p)
	code := uintptr(cannotExecute)
	if report[0] == inLookup {
		code = notFound
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, p.files[len(p.files)-1], uintptr(unsafe.Pointer(&report)), unsafe.Sizeof(report))
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, code, 0, 0)
	}
}

// cloneArgs is the kernel's struct clone_args.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// copied is fork(2), into a group if there is one: a child that entered it afterwards would not be held to its limit of
// processes, and every other start would wait for the move.
//
//go:nosplit
//go:norace
func copied(group uintptr) (pid uintptr, errno syscall.Errno) {
	if group == 0 {
		pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		return pid, errno
	}
	args := cloneArgs{flags: intoGroup, exitSignal: uint64(syscall.SIGCHLD), cgroup: uint64(group)}
	pid, _, errno = syscall.RawSyscall(clone3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	return pid, errno
}

// become returns only when it has failed: the stage and the error's number.
//
//go:nosplit
//go:norace
func become(p *prepared) (stage, errno uint32) {
	_, _, e := syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	if e != 0 {
		return inSession, uint32(e)
	}
	if e := takeFiles(p); e != 0 {
		return inFiles, uint32(e)
	}
	if p.terminal {
		if _, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, 0, syscall.TIOCSCTTY, 0); e != 0 {
			return inTerminal, uint32(e)
		}
	}
	adjust(p)
	for i := range p.limits {
		_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, p.limits[i].number, uintptr(unsafe.Pointer(&p.limits[i].value)), 0, 0, 0)
		// a limit that is lower already may not be raised, and need not be
		if e != 0 && e != syscall.EPERM {
			return inRlimit, uint32(e)
		}
	}
	if p.setIDs {
		if e := takeIDs(p); e != 0 {
			return inIDs, uint32(e)
		}
	}
	// as the user, who may not be let in
	if _, _, e := syscall.RawSyscall(syscall.SYS_CHDIR, p.cwd, 0, 0); e != 0 {
		return inCwd, uint32(e)
	}
	resetSignals()
	return execute(p)
}

// takeFiles puts the descriptors in their places and the status behind them, and closes everything else.
//
//go:nosplit
//go:norace
func takeFiles(p *prepared) syscall.Errno {
	for i := range p.files {
		moved, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, p.files[i], syscall.F_DUPFD_CLOEXEC, MaxFiles+1)
		if e != 0 {
			return e
		}
		p.files[i] = moved
	}
	status := len(p.files) - 1
	for i := range p.files {
		flags := uintptr(0)
		if i == status {
			flags = syscall.O_CLOEXEC
		}
		if _, _, e := syscall.RawSyscall(syscall.SYS_DUP3, p.files[i], uintptr(i), flags); e != 0 {
			return e
		}
		// whatever happens until all others are closed, the report finds its way
		p.files[i] = uintptr(i)
	}
	_, _, e := syscall.RawSyscall(closeRange, uintptr(status+1), maxFD, 0)
	if e == syscall.ENOSYS {
		// every descriptor of the guest closes on exec
		return 0
	}
	return e
}

// adjust is best effort: user code goes before the guest when memory runs out.
//
//go:nosplit
//go:norace
func adjust(p *prepared) {
	if len(p.adjustment) == 0 {
		return
	}
	at := here
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&adjustmentPath[0])), syscall.O_WRONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p.adjustment[0])), uintptr(len(p.adjustment)))
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
}

// takeIDs gives up what the user may not have. A uid other than 0 loses every capability with the change.
//
//go:nosplit
//go:norace
func takeIDs(p *prepared) syscall.Errno {
	for i := range p.drop {
		if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, capDrop, p.drop[i], 0, 0, 0, 0); e != 0 {
			return e
		}
	}
	groups := uintptr(0)
	if len(p.groups) > 0 {
		groups = uintptr(unsafe.Pointer(&p.groups[0]))
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(p.groups)), groups, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESGID, p.gid, p.gid, p.gid); e != 0 {
		return e
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, p.uid, p.uid, p.uid)
	return e
}

// resetSignals gives the command default dispositions and an empty mask. Until then all of them wait.
//
//go:nosplit
//go:norace
func resetSignals() {
	for signal := uintptr(1); signal <= lastSignal; signal++ {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&noAction)), 0, sigsetSize, 0, 0)
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&noSignals)), 0, sigsetSize, 0, 0)
}

// execute tries every candidate and tells the last error that means something, as execvp(3) does.
//
//go:nosplit
//go:norace
func execute(p *prepared) (stage, errno uint32) {
	stage, errno = inLookup, uint32(syscall.ENOENT)
	for i := range p.candidates {
		e := executeOne(p, p.candidates[i])
		if e == syscall.ENOENT || e == syscall.ENOTDIR {
			continue
		}
		stage, errno = inExecve, uint32(e)
		if e != syscall.EACCES {
			break
		}
	}
	return stage, errno
}

// executeOne does what execvp(3) does with a text file that has no interpreter line.
//
//go:nosplit
//go:norace
func executeOne(p *prepared, path uintptr) syscall.Errno {
	envv := uintptr(unsafe.Pointer(&p.envv[0]))
	_, _, e := syscall.RawSyscall(syscall.SYS_EXECVE, path, uintptr(unsafe.Pointer(&p.argv[0])), envv)
	if e == syscall.ENOEXEC {
		p.shellArgv[1] = path
		_, _, e = syscall.RawSyscall(syscall.SYS_EXECVE, p.shell, uintptr(unsafe.Pointer(&p.shellArgv[0])), envv)
	}
	return e
}
