package procs

import (
	"os"
	"path/filepath"
	"testing"

	"cloche/guest/internal/reaper"
	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

func TestOOMCounterInBothHierarchies(t *testing.T) {
	for content, want := range map[string]int64{
		"low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n": 2,  // v2, memory.events
		"oom_kill_disable 0\nunder_oom 0\noom_kill 17\n":              17, // v1, memory.oom_control
		"":                      -1,
		"oom_kill_disable 0\n":  -1,
		"oom_kill nonsense\n\n": 0,
	} {
		name := filepath.Join(t.TempDir(), "events")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the place in the file must not matter
			if got := readOOMKills(int(file.Fd())); got != want {
				t.Errorf("%q: %d, not %d", content, got, want)
			}
		}
		file.Close()
	}
	if got := readOOMKills(-1); got != -1 {
		t.Error(got)
	}
}

func TestMemoryIsToldOnlyWhenTheCounterRose(t *testing.T) {
	name := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(name, []byte("oom_kill 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	book := users.NewBook(false)
	manager := NewManager(Config{Book: book, Reaper: reaper.New(), MemoryFD: int(file.Fd()), RingBytes: 4096})
	me := wire.Text("0")
	if os.Getuid() != 0 {
		book.SharedUID, me = true, "user"
	}
	for script, want := range map[string]string{"kill -9 $$": "", "echo 'oom_kill 2' > " + name + "; kill -9 $$": "memory"} {
		p, err := manager.Start(&wire.ProcessSpec{Argv: []wire.Text{"sh", "-c", wire.Text(script)}, User: &me})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		got := ""
		if info := p.Info(); info.LimitHit != nil {
			got = *info.LimitHit
		}
		if got != want {
			t.Errorf("%s: %q, not %q", script, got, want)
		}
		if err := os.WriteFile(name, []byte("oom_kill 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIdsSortByTimeAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	last := ""
	for i := 0; i < 1000; i++ {
		id := newID()
		if len(id) != 28 || id[:2] != "p_" || seen[id] {
			t.Fatal(id)
		}
		if id[2:12] < last {
			t.Fatalf("%s after %s", id, last)
		}
		seen[id], last = true, id[2:12]
	}
}

func TestExpand(t *testing.T) {
	for name, want := range map[string]string{"~": "/home/user", "~/a": "/home/user/a", "a/../b": "/home/user/a/../b", "/x": "/x", ".": "/home/user",
		"~user": "/home/user/~user", "-": "/home/user/-"} {
		if got := Expand(name, "/home/user"); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func TestSignalNames(t *testing.T) {
	for text, want := range map[string]int{"15": 15, "TERM": 15, "SIGTERM": 15, "sigusr1": 10, "0": 0, "64": 64} {
		if got, err := ParseSignal(text); err != nil || int(got) != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "65", "-1", "SIG", "NOPE"} {
		if _, err := ParseSignal(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
