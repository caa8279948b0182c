package execstep

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// emptyGroup is a new cgroup of version 2, where this machine has them and lets this user make one.
func emptyGroup(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[2] != "cgroup2" {
			continue
		}
		place, err := os.MkdirTemp(fields[1], "cloche-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := syscall.Rmdir(place); err != nil {
				t.Error(err)
			}
		})
		return place
	}
	t.Skip("no cgroup of version 2 can be made here")
	return ""
}

func TestACommandBeginsInItsGroup(t *testing.T) {
	place := emptyGroup(t)
	group, err := os.Open(place)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	command := script("grep ^0: /proc/self/cgroup")
	command.Group = int(group.Fd())
	output, failure, status := run(t, command)
	if failure != nil || status != 0 || !strings.HasSuffix(strings.TrimSpace(output), "/"+filepath.Base(place)) {
		t.Errorf("%q %v %v", output, failure, status)
	}
}

func TestAGroupThatIsGoneStartsNothing(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	command := Command{Argv: []string{"true"}, Cwd: "/", Group: int(null.Fd())}
	if _, err := command.Start(); err == nil {
		t.Error("it was started")
	}
}
