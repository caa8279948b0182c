package main

import (
	"syscall"
	"unsafe"
)

// filterAddress is where the filter's code is, runtimeHandler what it goes on to.
var filterAddress, runtimeHandler uintptr

// action is the kernel's struct sigaction.
type action struct {
	handler uintptr
	rest    [3]uint64 // flags, restorer, mask
}

// faults are the signals that the runtime turns into panics, which a request's goroutine survives.
var faults = []syscall.Signal{syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE}

func isFault(signal uintptr) bool {
	for _, fault := range faults {
		if syscall.Signal(signal) == fault {
			return true
		}
	}
	return false
}

// filterFaults puts a filter before the runtime's handler: a fault that the processor raised goes on to it, a signal
// that a process has sent is dropped. They differ in si_code, which is above 0 for the kernel's own only: it refuses
// such a code from one process to another.
func filterFaults() {
	for _, fault := range faults {
		var now action
		if sigaction(fault, nil, &now) != 0 || now.handler <= 1 || now.handler == filterAddress {
			continue
		}
		runtimeHandler = now.handler
		now.handler = filterAddress
		_ = sigaction(fault, &now, nil)
	}
}

func sigaction(signal syscall.Signal, set, old *action) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(set)),
		uintptr(unsafe.Pointer(old)), sigsetBytes, 0, 0)
	return errno
}
