package main

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	setDumpable    = 4  // PR_SET_DUMPABLE
	setSubreaper   = 36 // PR_SET_CHILD_SUBREAPER
	lastSignal     = 64
	sigsetBytes    = 8
	profilerSignal = 27
	preemptSignal  = 23
	closeRange     = 436 // on every architecture
	closeOnExec    = 4   // CLOSE_RANGE_CLOEXEC
)

// keepFromChildren closes every inherited descriptor but the first three on exec, also those nobody told of.
func keepFromChildren() {
	_, _, errno := syscall.RawSyscall(closeRange, 3, ^uintptr(0)>>32, closeOnExec)
	if errno == 0 {
		return
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// becomeInit makes the guest unreadable for what runs beside it and the parent of what loses its own.
func becomeInit() {
	syscall.Umask(0o022)
	if os.Getpid() != 1 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setSubreaper, 1, 0)
		return
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setDumpable, 0, 0)
}

// ignoreSignals gives every signal back its default disposition. The kernel drops signals with a default disposition
// that code inside the namespace sends to its PID 1, whereas a handler of the Go runtime would run and end it. It
// comes last, when the runtime has installed all its handlers. The runtime itself needs three of them, and faults.
func ignoreSignals() {
	var byDefault [4]uint64
	filterFaults()
	for signal := uintptr(1); signal <= lastSignal; signal++ {
		if isFault(signal) {
			continue
		}
		switch syscall.Signal(signal) {
		case syscall.SIGCHLD, preemptSignal, profilerSignal, syscall.SIGKILL, syscall.SIGSTOP:
			continue
		}
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&byDefault)), 0,
			sigsetBytes, 0, 0)
	}
}
