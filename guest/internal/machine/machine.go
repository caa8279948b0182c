// Package machine is what a guest can do that has a kernel of its own: hold everything that runs, become another sandbox
// after its memory was copied, and end the virtual machine.
package machine

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

const (
	addEntropy  = 0x40085203 // RNDADDENTROPY
	reseedPool  = 0x5207     // RNDRESEEDCRNG
	entropySize = 4096
)

// Machine is the kernel under this sandbox. Disk is an open directory of the disk that is written to.
type Machine struct {
	Group *Group
	Disk  int
}

// Freeze stops all user code and writes to the disk what it has written so far.
func (m *Machine) Freeze() error {
	if err := m.Group.Freeze(); err != nil {
		return err
	}
	if _, _, errno := syscall.Syscall(nrSyncfs, uintptr(m.Disk), 0, 0); errno != 0 {
		_ = m.Group.Thaw()
		return fmt.Errorf("the disk cannot be written: %w", errno)
	}
	return nil
}

// Thaw lets user code go on.
func (m *Machine) Thaw() error { return m.Group.Thaw() }

// Limit sets the limits of user code.
func (m *Machine) Limit(limits Limits) error { return m.Group.Limit(limits) }

// SetClock sets the time, UTC seconds since the epoch.
func (m *Machine) SetClock(seconds float64) error {
	now := syscall.NsecToTimeval(int64(seconds * 1e9))
	return syscall.Settimeofday(&now)
}

// Reseed makes the kernel's generator another one than that of every copy of this memory: the bytes count as random,
// and are in effect when it returns.
func (m *Machine) Reseed(entropy []byte) error {
	pool, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer pool.Close()
	request := struct {
		bits, size int32
		data       [entropySize]byte
	}{}
	size := copy(request.data[:], entropy)
	request.bits, request.size = int32(size*8), int32(size)
	for _, call := range [][2]uintptr{{addEntropy, uintptr(unsafe.Pointer(&request))}, {reseedPool, 0}} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, pool.Fd(), call[0], call[1]); errno != 0 {
			return errno
		}
	}
	return nil
}

// TellForked sends each process the signal that CLOCHE_FORK_SIGNAL in its environment names.
func (m *Machine) TellForked() {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid := pidOf(entry.Name()); pid > 1 {
			if signal, ok := forkSignal(pid, os.ReadFile); ok {
				_ = syscall.Kill(pid, signal)
			}
		}
	}
}
