package machine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cloche/guest/internal/sys"
)

const (
	cgroups     = "/sys/fs/cgroup"
	groupName   = "user"
	controllers = "+memory +pids +cpu"
	period      = 100_000 // microseconds, of cpu.max
	// frozenWithin is for a process that hangs in the kernel: the others are let go again.
	frozenWithin = 5 * time.Second
	pollUrgent   = 0x2 // POLLPRI: a file of a cgroup says something new
)

// Limits of everything that is not the guest itself. 0 is none.
type Limits struct {
	MemoryMiB, Pids int64
	CPUs            float64
}

// Check bounds what the host says, so that no arithmetic on it can overflow.
func (l Limits) Check() error {
	switch {
	case l.MemoryMiB < 0 || l.MemoryMiB > 1<<24:
		return fmt.Errorf("memory_mib must be from 0 to %d", 1<<24)
	case l.Pids < 0 || l.Pids > 1<<22:
		return fmt.Errorf("pids must be from 0 to %d", 1<<22)
	case !(l.CPUs >= 0 && l.CPUs <= 1024):
		return fmt.Errorf("cpus must be from 0 to 1024")
	}
	return nil
}

// Files are the limits as the kernel wants them written, by name of the file.
func (l Limits) Files() [][2]string {
	memory, pids, cpu := "max", "max", "max"
	if l.MemoryMiB > 0 {
		memory = strconv.FormatInt(l.MemoryMiB<<20, 10)
	}
	if l.Pids > 0 {
		pids = strconv.FormatInt(l.Pids, 10)
	}
	if l.CPUs > 0 { // the kernel takes no less than a millisecond
		cpu = strconv.FormatInt(max(int64(l.CPUs*period), 1000), 10)
	}
	return [][2]string{{"memory.max", memory}, {"pids.max", pids}, {"cpu.max", cpu + " " + strconv.Itoa(period)}}
}

// Group is the cgroup of user code. Root's code may leave it, as the kernel is the sandbox's own.
type Group struct {
	place  string
	Dir    int // the directory, for the start of processes
	Events int // its memory.events
	freeze int
	frozen int // its cgroup.events
	limits Limits
}

// MakeGroup makes it; cgroup2 is mounted.
func MakeGroup(limits Limits) (*Group, error) {
	if err := put(cgroups+"/cgroup.subtree_control", controllers); err != nil {
		return nil, err
	}
	g := &Group{place: filepath.Join(cgroups, groupName)}
	if err := os.Mkdir(g.place, 0o755); err != nil {
		return nil, err
	}
	if err := g.open(); err != nil {
		return nil, err
	}
	return g, g.set(limits)
}

func (g *Group) open() (err error) {
	for _, file := range []struct {
		fd   *int
		name string
		how  int
	}{{&g.Dir, ".", syscall.O_RDONLY | syscall.O_DIRECTORY}, {&g.Events, "memory.events", syscall.O_RDONLY},
		{&g.freeze, "cgroup.freeze", syscall.O_WRONLY}, {&g.frozen, "cgroup.events", syscall.O_RDONLY}} {
		place := filepath.Join(g.place, file.name)
		if *file.fd, err = syscall.Open(place, file.how|syscall.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
	}
	return nil
}

// Limit sets all limits if they are others than now.
func (g *Group) Limit(limits Limits) error {
	if limits == g.limits {
		return nil
	}
	return g.set(limits)
}

func (g *Group) set(limits Limits) error {
	g.limits = limits
	for _, file := range limits.Files() {
		if err := put(filepath.Join(g.place, file[0]), file[1]); err != nil {
			return err
		}
	}
	return nil
}

// Freeze returns when no process of the group runs. The error says that some would not stop; none is frozen then.
func (g *Group) Freeze() error {
	if err := g.write("1"); err != nil {
		return err
	}
	deadline := time.Now().Add(frozenWithin)
	for {
		if frozen, err := g.isFrozen(); frozen || err != nil {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			_ = g.write("0")
			return fmt.Errorf("a process hangs in the kernel and could not be frozen within %v", frozenWithin)
		}
		_, _ = sys.Poll([]sys.PollFd{{Fd: int32(g.frozen), Events: pollUrgent}}, left.Milliseconds()+1)
	}
}

// Thaw lets all of them run.
func (g *Group) Thaw() error { return g.write("0") }

func (g *Group) write(text string) error {
	_, err := syscall.Pwrite(g.freeze, []byte(text), 0)
	return err
}

func (g *Group) isFrozen() (bool, error) {
	var buf [256]byte
	n, err := syscall.Pread(g.frozen, buf[:], 0)
	if err != nil {
		return false, err
	}
	return saysFrozen(buf[:n]), nil
}

func saysFrozen(events []byte) bool {
	for _, line := range bytes.Split(events, []byte{'\n'}) {
		if strings.TrimSpace(string(line)) == "frozen 1" {
			return true
		}
	}
	return false
}

// put writes a file of the kernel's, which takes a value in one piece.
func put(place, value string) error {
	fd, err := syscall.Open(place, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err == nil {
		_, err = syscall.Write(fd, []byte(value))
		_ = syscall.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}
