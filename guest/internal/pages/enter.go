package pages

import (
	"syscall"

	"cloche/guest/internal/stages"
	"cloche/guest/internal/sys"
)

const statusNotEntered = 125

// enter runs this program once more, in the user namespace of the process: /proc shows its files as those of an id that
// belongs to nobody, and only there is the caller, to whom the namespace belongs, root over that id. Returns its exit status.
//
// A process with several threads may not change its user namespace, and this one has some. So it is cloned without exec,
// and the clone, which has one, makes nothing but system calls.
func enter(pid int, argv []string) int {
	namespace, err := namespaceOf(pid)
	if err != nil {
		fail(1, err)
	}
	start, err := sys.PrepareExec("/proc/self/exe", argv, nil)
	if err != nil {
		fail(1, stages.Of("enter user namespace", err))
	}
	child, errno := cloneInto(namespace, start)
	if errno != 0 {
		fail(1, stages.Of("enter user namespace", errno))
	}
	var status syscall.WaitStatus
	for {
		_, err = syscall.Wait4(child, &status, 0, nil)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil || !status.Exited() || status.ExitStatus() == statusNotEntered {
		fail(1, stages.Off("enter user namespace", "the namespace of process %d belongs to somebody else", pid))
	}
	return status.ExitStatus()
}

func namespaceOf(pid int) (int, error) {
	p, err := openProcess(pid)
	if err != nil {
		return -1, err
	}
	return p.open("ns/user", syscall.O_RDONLY)
}

//go:norace
//go:noinline
func cloneInto(namespace int, start *sys.PreparedExec) (int, syscall.Errno) {
	child, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 || child != 0 {
		return int(child), e
	}
	if _, _, e = syscall.RawSyscall(sys.NrSetns, uintptr(namespace), syscall.CLONE_NEWUSER, 0); e == 0 {
		start.Exec()
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, statusNotEntered, 0, 0)
	}
}
