// Command cloche-guest is PID 1 of a sandbox: it starts processes, serves files and dials ports for the host.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cloche/guest/internal/door"
	"cloche/guest/internal/machine"
	"cloche/guest/internal/output"
	"cloche/guest/internal/procs"
	"cloche/guest/internal/reaper"
	"cloche/guest/internal/server"
	"cloche/guest/internal/users"
	"cloche/guest/internal/vmboot"
)

// version is set by the build.
var version = "dev"

// settings is what the engine said in the environment. Descriptors are -1 when there are none.
type settings struct {
	listenFD, memoryFD, lifelineFD int
	listenPath, sandboxID, nonce   string
	sharedUID, ownKernel, redirect bool
	ports                          *door.Ports
	diagFD, refusalFD              int
	ringBytes, landlockABI         int

	firmware bool // this is the first program of a virtual machine
	groupFD  int
	machine  *machine.Machine
	port     *os.File
}

func init() {
	// The main thread keeps the guest's own identity: file operations borrow other threads and may end them.
	runtime.LockOSThread()
}

func main() {
	started := time.Now()
	keepFromChildren()
	set := readSettings()
	becomeInit()
	listener, err := set.open()
	if err != nil {
		set.fatal(err.Error())
	}
	reap := reaper.New()
	if set.lifelineFD >= 0 {
		go watchLifeline(set.lifelineFD)
	}
	inner := door.New(door.Config{Ports: set.ports, Redirect: set.redirect, DiagFD: set.diagFD,
		RefusalFD: set.refusalFD})
	manager := procs.NewManager(procs.Config{Book: users.NewBook(set.sharedUID), Reaper: reap, MemoryFD: set.memoryFD,
		GroupFD: set.groupFD, OwnKernel: set.machine != nil, RingBytes: set.ringBytes, Ready: inner.Open})
	config := server.Config{Manager: manager, Reaper: reap, Door: inner, Version: version, SandboxID: set.sandboxID,
		Nonce: set.nonce, LandlockABI: set.landlockABI, OwnKernel: set.ownKernel, Started: started, Exit: os.Exit}
	if set.machine != nil {
		config.Machine, config.Exit = set.machine, set.machine.End
	}
	api := server.New(config)
	failed := make(chan error)
	go func() { failed <- api.Serve(listener) }()
	if os.Getpid() == 1 {
		ignoreSignals()
	}
	set.fatal("the server ended: " + (<-failed).Error())
}

// fatal ends the guest, and with it what it is the first program of.
func (set *settings) fatal(message string) {
	if set.firmware {
		machine.PowerOff(message)
	}
	fatal(message)
}

func fatal(message string) {
	_, _ = os.Stderr.WriteString("cloche-guest: " + message + "\n")
	os.Exit(1)
}

func readSettings() settings {
	set := settings{
		listenFD: descriptor("CLOCHE_LISTEN_FD"),
		memoryFD: descriptor("CLOCHE_MEMORY_EVENTS_FD"), lifelineFD: descriptor("CLOCHE_LIFELINE_FD"),
		sandboxID: os.Getenv("CLOCHE_SANDBOX_ID"), nonce: os.Getenv("CLOCHE_NONCE"),
		sharedUID: os.Getenv("CLOCHE_SHARED_UID") == "1", ownKernel: os.Getenv("CLOCHE_OWN_KERNEL") == "1",
		ringBytes: number("CLOCHE_OUTPUT_RING_BYTES", output.DefaultRingBytes), landlockABI: number("CLOCHE_LANDLOCK_ABI", 0),
	}
	set.ringBytes = min(max(set.ringBytes, leastRing), 1<<30)
	for i, argument := range os.Args {
		if argument == "--listen" && i+1 < len(os.Args) {
			set.listenPath = os.Args[i+1]
		}
	}
	set.readDoor()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "CLOCHE_") {
			_ = os.Unsetenv(name)
		}
	}
	return set
}

// readDoor: without a sandbox around it the loopback is the host's, and so are its ports.
func (set *settings) readDoor() {
	set.redirect = os.Getenv("CLOCHE_REDIRECT") == "1"
	set.diagFD, set.refusalFD = descriptor("CLOCHE_SOCKETS_FD"), descriptor("CLOCHE_REFUSALS_FD")
	if set.listenPath == "" {
		set.ports = &door.Usual
	} else if os.Getenv("CLOCHE_DOOR_PORTS") == "any" {
		set.ports = &door.Ports{}
	}
}

const leastRing = 4096

func number(name string, missing int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return missing
}

// firstFree is where inherited descriptors are moved, away from the numbers that a child's own get at its start.
const firstFree = 16

// descriptor moves an inherited descriptor up and closes it on exec.
func descriptor(name string) int {
	fd := number(name, -1)
	if fd < 0 {
		return -1
	}
	moved, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, firstFree)
	if errno != 0 {
		fatal(name + " is not an open descriptor")
	}
	if fd > 2 {
		_ = syscall.Close(fd)
	}
	return int(moved)
}

// open boots where there is a machine to boot, and is where the host finds this guest.
func (set *settings) open() (net.Listener, error) {
	words, wanted, err := vmboot.Wanted()
	set.firmware = wanted
	if err != nil {
		return nil, err
	}
	if wanted {
		return set.boot(words)
	}
	listener, err := listen(*set)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	return listener, nil
}

func (set *settings) boot(words vmboot.Words) (net.Listener, error) {
	booted, err := vmboot.Boot(words)
	if err != nil {
		return nil, err
	}
	set.machine, set.ownKernel, set.redirect = booted.Machine, true, booted.Redirected
	set.refusalFD = booted.Refusals
	set.groupFD, set.memoryFD = booted.Machine.Group.Dir, booted.Machine.Group.Events
	if words.Ring > 0 {
		set.ringBytes = max(words.Ring, leastRing)
	}
	return booted.Port, nil
}

func listen(set settings) (net.Listener, error) {
	if set.listenFD < 0 {
		return net.Listen("unix", set.listenPath)
	}
	file := os.NewFile(uintptr(set.listenFD), "listener")
	defer file.Close()
	return net.FileListener(file)
}

// watchLifeline waits without a thread of its own.
func watchLifeline(fd int) {
	_ = syscall.SetNonblock(fd, true)
	lifeline := os.NewFile(uintptr(fd), "lifeline")
	var buf [64]byte
	for {
		if _, err := lifeline.Read(buf[:]); err != nil {
			os.Exit(0)
		}
	}
}
