package sys

import (
	"slices"
	"syscall"
	"unsafe"
)

const (
	CapChown          = 0
	CapDacOverride    = 1
	CapFowner         = 3
	CapFsetid         = 4
	CapKill           = 5
	CapSetgid         = 6
	CapSetuid         = 7
	CapSetpcap        = 8
	CapNetBindService = 10
	lastCapTried      = 63

	prCapbsetDrop       = 24
	prCapbsetRead       = 23
	prSetNoNewPrivs     = 38
	prSetPdeathsig      = 1
	prSetKeepcaps       = 8
	prCapAmbient        = 47
	prCapAmbientClear   = 4
	capabilityVersion3  = 0x20080522
	prSetDumpable       = 4
	ambientClearAllArgs = 0
)

type capHeader struct {
	version uint32
	pid     int32
}

type capData struct{ effective, permitted, inheritable uint32 }

// Bounding is the calling thread's bounding set.
func Bounding() (set []int) {
	for c := 0; c <= lastCapTried; c++ {
		if present, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapbsetRead, uintptr(c), 0, 0, 0, 0); e == 0 && present != 0 {
			set = append(set, c)
		}
	}
	return set
}

// DropBounding empties the calling thread's bounding set but for `keep`. Needs CAP_SETPCAP.
func DropBounding(keep ...int) error {
	for _, c := range Bounding() {
		if slices.Contains(keep, c) {
			continue
		}
		if err := Prctl(prCapbsetDrop, uintptr(c), 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// SetCaps makes `caps` the calling thread's whole permitted and effective set; nothing is inheritable or ambient.
func SetCaps(caps ...int) error {
	if err := Prctl(prCapAmbient, prCapAmbientClear, ambientClearAllArgs, 0, 0); err != nil {
		return err
	}
	header := capHeader{version: capabilityVersion3}
	var data [2]capData
	for _, c := range caps {
		data[c/32].effective |= 1 << (c % 32)
		data[c/32].permitted |= 1 << (c % 32)
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0)
	return errnoOrNil(e)
}

// KeepCaps lets the permitted set of the calling thread survive its next change of ids; the next exec forgets it.
func KeepCaps() error { return Prctl(prSetKeepcaps, 1, 0, 0, 0) }

// NoNewPrivileges can never be undone by this thread or its descendants.
func NoNewPrivileges() error { return Prctl(prSetNoNewPrivs, 1, 0, 0, 0) }

// DieWithParent asks for SIGKILL when the thread that made this process ends. A change of ids forgets it.
func DieWithParent() error { return Prctl(prSetPdeathsig, uintptr(syscall.SIGKILL), 0, 0, 0) }

// SetIds changes this thread's ids only: the callers exec right after, which ends the other threads.
func SetIds(uid, gid int, groups []uint32) error {
	var p uintptr
	if len(groups) > 0 {
		p = uintptr(unsafe.Pointer(&groups[0]))
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(groups)), p, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		return e
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
	return errnoOrNil(e)
}

// PreparedExec is an execve of which everything but the call is done: what a clone without exec may still do.
type PreparedExec struct {
	path       *byte
	argv, envp []*byte
}

// PrepareExec makes what the kernel wants of the three.
func PrepareExec(path string, argv, env []string) (*PreparedExec, error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return nil, syscall.EINVAL
	}
	args, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return nil, syscall.EINVAL
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return nil, syscall.EINVAL
	}
	return &PreparedExec{p, args, envp}, nil
}

// Exec only returns when it fails.
//
//go:norace
func (p *PreparedExec) Exec() syscall.Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)), uintptr(unsafe.Pointer(&p.argv[0])),
		uintptr(unsafe.Pointer(&p.envp[0])))
	return e
}

// Exec replaces the process. Unlike syscall.Exec it leaves the limit on open files as it was set.
func Exec(path string, argv, env []string) syscall.Errno {
	prepared, err := PrepareExec(path, argv, env)
	if err != nil {
		return syscall.EINVAL
	}
	return prepared.Exec()
}
