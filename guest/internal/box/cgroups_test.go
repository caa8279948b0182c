package box

import (
	"os"
	"sync"
	"syscall"
	"testing"
)

func TestGroupsAreMadeWhileOthersGo(t *testing.T) {
	top := t.TempDir() + "/cloche-tag"
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		all.Add(1)
		go func() {
			defer all.Done()
			groups := []Cgroup{{Dir: top + "/" + name}}
			for i := 0; i < 300; i++ {
				if err := makeCgroups(groups); err != nil {
					t.Error(err)
				}
				removeCgroups(groups)
			}
		}()
	}
	all.Wait()
	if _, err := os.Stat(top); err == nil {
		t.Error("the shared directory was left")
	}
}

func TestOnlyWhatMayBeMissingIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	writes := [][2]string{{"memory.swap.max", "0"}}
	if err := makeCgroups([]Cgroup{{Dir: dir, Writes: writes, Optional: []string{"memory.swap.max"}}}); err != nil {
		t.Error(err)
	}
	err := makeCgroups([]Cgroup{{Dir: dir, Writes: writes}})
	if failure, ok := err.(*StageError); !ok || failure.Errno != int(syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func TestOutOfMemoryKillsAreRead(t *testing.T) {
	for text, want := range map[string]int{"oom_kill 3\n": 3, "low 0\noom 1\noom_kill 12\noom_group_kill 0\n": 12,
		"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n": 2, "": 0, "oom_kill x\n": 0} {
		place := t.TempDir() + "/events"
		must(t, os.WriteFile(place, []byte(text), 0o600))
		fd, err := syscall.Open(place, syscall.O_RDONLY, 0)
		must(t, err)
		if got := oomKills(fd); got != want {
			t.Errorf("%q: %d", text, got)
		}
		_ = syscall.Close(fd)
	}
	if oomKills(-1) != 0 {
		t.Error("no descriptor, no kills")
	}
}
