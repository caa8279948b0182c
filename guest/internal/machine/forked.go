package machine

import (
	"bytes"
	"strconv"
	"strings"
	"syscall"

	"cloche/guest/internal/procs"
)

const forkVariable = "CLOCHE_FORK_SIGNAL="

func pidOf(name string) int {
	pid, err := strconv.Atoi(name)
	if err != nil {
		return 0
	}
	return pid
}

// forkSignal is the signal that a process asked for in the environment that it was started with. The environment goes on
// to whatever it starts, also to a shell around it that knows nothing of this: so one that neither catches nor
// waits for the signal is left alone, unless the signal is one that means an end.
func forkSignal(pid int, read func(string) ([]byte, error)) (syscall.Signal, bool) {
	place := "/proc/" + strconv.Itoa(pid)
	environ, err := read(place + "/environ")
	if err != nil {
		return 0, false
	}
	signal, ok := asked(environ)
	if !ok || signal == syscall.SIGKILL || signal == syscall.SIGTERM {
		return signal, ok
	}
	status, err := read(place + "/status")
	return signal, err == nil && expects(string(status), signal)
}

func asked(environ []byte) (syscall.Signal, bool) {
	for _, entry := range bytes.Split(environ, []byte{0}) {
		if value, ok := strings.CutPrefix(string(entry), forkVariable); ok {
			signal, err := procs.ParseSignal(value)
			return signal, err == nil && signal > 0
		}
	}
	return 0, false
}

// expects tells whether the signal is caught or blocked: the masks are lines of /proc/PID/status, in hexadecimal.
func expects(status string, signal syscall.Signal) bool {
	for _, line := range strings.Split(status, "\n") {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigCgt" && name != "SigBlk" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && mask>>(uint(signal)-1)&1 == 1 {
			return true
		}
	}
	return false
}
