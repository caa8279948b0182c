package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

func caught(f func()) (text string) {
	defer func() {
		if problem, ok := recover().(error); ok {
			text = problem.Error()
		}
	}()
	f()
	return ""
}

type queued struct {
	signal, errno, code, _ int32
	_                      [112]byte
}

func TestSentFaultsAreDroppedAndOwnOnesArePanics(t *testing.T) {
	filterFaults()
	if runtimeHandler == 0 || runtimeHandler == filterAddress {
		t.Fatal("no handler to go on to")
	}
	for round := 0; round < 50; round++ {
		for _, fault := range faults {
			_ = syscall.Kill(os.Getpid(), fault)
			for _, code := range []int32{-1, -5} {
				info := queued{signal: int32(fault), code: code}
				_, _, errno := syscall.Syscall(syscall.SYS_RT_SIGQUEUEINFO, uintptr(os.Getpid()), uintptr(fault),
					uintptr(unsafe.Pointer(&info)))
				if errno != 0 {
					t.Fatal(errno)
				}
			}
		}
		var nothing *queued
		if text := caught(func() { nothing.errno++ }); !strings.Contains(text, "nil pointer") {
			t.Fatalf("%q", text)
		}
		zero := round - round
		if text := caught(func() { zero = 1 / zero }); !strings.Contains(text, "divide by zero") {
			t.Fatalf("%q", text)
		}
	}
}
