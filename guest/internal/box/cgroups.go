package box

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// makeCgroups creates the box's groups and their limits while they are empty. The directories are named by the plan after
// the sandbox's id, so what a crash leaves can be found.
func makeCgroups(groups []Cgroup) error {
	for _, group := range groups {
		if err := makeGroup(group.Dir); err != nil {
			return stage("cgroup", unwrap(err))
		}
		for _, write := range group.Writes {
			err := writeControl(group.Dir+"/"+write[0], write[1])
			if err == syscall.ENOENT && slices.Contains(group.Optional, write[0]) {
				continue
			}
			if err != nil {
				return stage("cgroup "+write[0], unwrap(err))
			}
		}
	}
	return nil
}

// makeGroup tries again when the end of another box has just taken the directory away that all boxes of a data directory
// share, which MkdirAll tells as either error.
func makeGroup(dir string) error {
	var err error
	for try := 0; try < 100; try++ {
		if err = os.MkdirAll(dir, 0o755); !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	return err
}

func unwrap(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func writeControl(path, text string) error {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(text))
	return err
}

// readControl reads a small file of the kernel.
func readControl(path string) (string, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	var buf [512]byte
	n, err := unbroken(func() (int, error) { return syscall.Read(fd, buf[:]) })
	return string(buf[:max(n, 0)]), err
}

// openTasks opens the file by which a thread moves itself into each group. Only version 1 has it. There the kernel need
// not look at the whole machine as it must when one process moves another, for which it waits ten milliseconds and more
// (a grace period of RCU, in cgroup_attach_lock).
func openTasks(groups []Cgroup) (files []int, err error) {
	for _, group := range groups {
		fd, err := syscall.Open(group.Dir+"/tasks", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		if err == syscall.ENOENT {
			continue
		}
		if err != nil {
			return files, stage("enter cgroup", err)
		}
		files = append(files, fd)
	}
	return files, nil
}

// enterByTasks moves this thread. The others of this program end when it executes the guest.
func enterByTasks(files []int) error {
	for _, fd := range files {
		if _, err := syscall.Write(fd, []byte{'0'}); err != nil {
			return stage("enter cgroup", err)
		}
		_ = syscall.Close(fd)
	}
	return nil
}

// enterCgroups moves another process, where it cannot do that itself.
func enterCgroups(groups []Cgroup, pid int) error {
	for _, group := range groups {
		if err := writeControl(group.Dir+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return stage("enter cgroup", unwrap(err))
		}
	}
	return nil
}

// removeCgroups: the kernel lets a group go a moment after its last process was reaped.
func removeCgroups(groups []Cgroup) {
	for _, group := range groups {
		for pause := 50 * time.Microsecond; pause < time.Second; pause += pause / 2 {
			err := syscall.Rmdir(group.Dir)
			if err == nil || err == syscall.ENOENT {
				break
			}
			time.Sleep(pause)
		}
		if parent := path.Dir(group.Dir); strings.HasPrefix(path.Base(parent), "cloche-") {
			// the last box of a data directory takes its directory along; while there are others this fails
			_ = syscall.Rmdir(parent)
		}
	}
}

// freezeBox is the same write for both versions; the state is read back until it holds.
func freezeBox(f *Freezer, frozen bool) error {
	text := f.Thaw
	if frozen {
		text = f.Freeze
	}
	if err := writeControl(f.File, text); err != nil {
		return err
	}
	// a process that is in the kernel freezes when it leaves it, which takes as long as a busy disk does
	for try := 0; try < 10_000; try++ {
		state, err := readControl(f.State)
		if err != nil {
			return err
		}
		if strings.Contains(state, f.Frozen) == frozen {
			return nil
		}
		time.Sleep(500 * time.Microsecond)
	}
	if frozen {
		_ = writeControl(f.File, f.Thaw)
	}
	return syscall.ETIMEDOUT
}

// oomKills reads v2's memory.events or v1's memory.oom_control.
func oomKills(fd int) int {
	if fd < 0 {
		return 0
	}
	buf := make([]byte, 4096)
	n, _ := syscall.Pread(fd, buf, 0)
	for _, line := range strings.Split(string(buf[:max(n, 0)]), "\n") {
		if rest, found := strings.CutPrefix(line, "oom_kill "); found {
			count, _ := strconv.Atoi(rest)
			return count
		}
	}
	return 0
}
