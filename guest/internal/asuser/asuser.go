// Package asuser runs a function with the file rights of another user, on one thread.
package asuser

import (
	"runtime"
	"syscall"
	"unsafe"

	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

// Run calls f with fsuid, fsgid and groups of u. For a uid other than 0 the kernel takes the file capabilities of the
// thread away as long. Where the guest already is that user, or is not root, f just runs.
func Run(u users.User, f func() error) error {
	if syscall.Getuid() != 0 || u.UID == 0 {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := become(u.UID, u.GID, u.Groups); err != nil {
			result <- err
			return // still locked: the thread ends with the goroutine
		}
		result <- guarded(f)
		if become(0, 0, nil) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return <-result
}

// guarded turns a panic into an error: an unrecovered one would end PID 1, and the sandbox with it.
func guarded(f func() error) (err error) {
	defer func() {
		if caught := recover(); caught != nil {
			err = wire.Errorf("internal", "the guest failed: %v", caught)
		}
	}()
	return f()
}

// become changes this thread only; the calls of package syscall would change every thread.
func become(uid, gid int, groups []int) error {
	ids := make([]uint32, len(groups)+1)
	for i, group := range groups {
		ids[i] = uint32(group)
	}
	if uid == 0 {
		setFS(syscall.SYS_SETFSUID, 0)
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&ids[0])), 0)
	if errno != 0 {
		return errno
	}
	if !setFS(syscall.SYS_SETFSGID, gid) || !setFS(syscall.SYS_SETFSUID, uid) {
		return wire.Errorf("needs_subuid", "uid %d or gid %d is not mapped into this sandbox", uid, gid)
	}
	return nil
}

// setFS reports whether the id is now the one that was wanted: these calls do not fail, they just do nothing.
func setFS(call uintptr, id int) bool {
	_, _, _ = syscall.RawSyscall(call, uintptr(id), 0, 0)
	now, _, _ := syscall.RawSyscall(call, ^uintptr(0), 0, 0)
	return int(int32(now)) == id
}
