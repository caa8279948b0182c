// Package sys holds the system calls that the standard library does not wrap. Numbers from 424 on are the same on
// every architecture (include/uapi/asm-generic/unistd.h).
package sys

import (
	"syscall"
	"unsafe"
)

const (
	nrPidfdSendSignal = 424
	nrOpenTree        = 428
	nrMoveMount       = 429
	nrPidfdOpen       = 434
	nrCloseRange      = 436
	nrOpenat2         = 437
	nrMountSetattr    = 442

	AtEmptyPath     = 0x1000
	AtRecursive     = 0x8000
	OpenTreeClone   = 1
	OpenTreeCloexec = syscall.O_CLOEXEC

	MoveMountFEmptyPath = 0x4
	MoveMountTEmptyPath = 0x40

	MountAttrRdonly = 0x1
	MountAttrNosuid = 0x2
	MountAttrNodev  = 0x4
	MountAttrNoexec = 0x8

	ResolveNoMagiclinks = 0x02
	ResolveNoSymlinks   = 0x04
	ResolveBeneath      = 0x08
	ResolveInRoot       = 0x10

	CloseRangeCloexec = 4
	OPath             = 0x200000
)

func errnoOrNil(e syscall.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

// OpenTree clones the mount tree at path into a detached tree and returns its descriptor.
func OpenTree(dirfd int, path string, flags uint) (int, error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	fd, _, e := syscall.Syscall(nrOpenTree, uintptr(dirfd), uintptr(unsafe.Pointer(p)), uintptr(flags))
	return int(fd), errnoOrNil(e)
}

// MoveMount attaches the detached tree `tree` at the place that `target` (O_PATH) stands for.
func MoveMount(tree, target int) error {
	empty := []byte{0}
	p := uintptr(unsafe.Pointer(&empty[0]))
	_, _, e := syscall.Syscall6(nrMoveMount, uintptr(tree), p, uintptr(target), p, MoveMountFEmptyPath|MoveMountTEmptyPath, 0)
	return errnoOrNil(e)
}

// MountSetattr adds attributes to the mount (tree) behind fd. Adding never fails on locked mounts; nothing is cleared.
func MountSetattr(fd int, recursive bool, attrs uint64) error {
	empty := []byte{0}
	flags := uintptr(AtEmptyPath)
	if recursive {
		flags |= AtRecursive
	}
	arg := [4]uint64{attrs, 0, 0, 0}
	_, _, e := syscall.Syscall6(nrMountSetattr, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])), flags,
		uintptr(unsafe.Pointer(&arg)), unsafe.Sizeof(arg), 0)
	return errnoOrNil(e)
}

// Openat2 opens with resolution rules: the only way to walk a path that somebody hostile may have made.
func Openat2(dirfd int, path string, flags uint64, mode uint32, resolve uint64) (int, error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	how := [3]uint64{flags | syscall.O_CLOEXEC, uint64(mode), resolve}
	for {
		fd, _, e := syscall.Syscall6(nrOpenat2, uintptr(dirfd), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&how)),
			unsafe.Sizeof(how), 0, 0)
		if e == syscall.EAGAIN || e == syscall.EINTR {
			continue
		}
		return int(fd), errnoOrNil(e)
	}
}

func CloseRange(first, last uint, flags int) error {
	_, _, e := syscall.RawSyscall(nrCloseRange, uintptr(first), uintptr(last), uintptr(flags))
	return errnoOrNil(e)
}

// Getrandom fills buf from the kernel's pool: crypto/rand would cost every start of the launcher its self-tests.
func Getrandom(buf []byte) (int, error) {
	n, _, e := syscall.Syscall(nrGetrandom, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func PidfdOpen(pid int) (int, error) {
	fd, _, e := syscall.Syscall(nrPidfdOpen, uintptr(pid), 0, 0)
	return int(fd), errnoOrNil(e)
}

func PidfdSendSignal(pidfd int, sig syscall.Signal) error {
	_, _, e := syscall.Syscall6(nrPidfdSendSignal, uintptr(pidfd), uintptr(sig), 0, 0, 0, 0)
	return errnoOrNil(e)
}

func Prctl(option, a, b, c, d uintptr) error {
	_, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, option, a, b, c, d, 0)
	return errnoOrNil(e)
}

// PollFd is struct pollfd.
type PollFd struct {
	Fd      int32
	Events  int16
	Revents int16
}

const (
	PollIn  = 0x1
	PollHup = 0x10
)

// Poll waits for events; timeoutMs < 0 waits for ever. An interrupted wait returns 0 events.
func Poll(fds []PollFd, timeoutMs int64) (int, error) {
	var ts *syscall.Timespec
	if timeoutMs >= 0 {
		t := syscall.NsecToTimespec(timeoutMs * 1e6)
		ts = &t
	}
	n, _, e := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	if e == syscall.EINTR {
		return 0, nil
	}
	return int(n), errnoOrNil(e)
}
