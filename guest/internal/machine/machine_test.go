package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLimitsAsTheKernelWantsThem(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		want   string
	}{
		{Limits{}, "[[memory.max max] [pids.max max] [cpu.max max 100000]]"},
		{Limits{512, 256, 0.5}, "[[memory.max 536870912] [pids.max 256] [cpu.max 50000 100000]]"},
		{Limits{1, 1, 0.0001}, "[[memory.max 1048576] [pids.max 1] [cpu.max 1000 100000]]"},
	} {
		if got := fmt.Sprint(c.limits.Files()); got != c.want || c.limits.Check() != nil {
			t.Errorf("%+v: %s", c.limits, got)
		}
	}
	for _, limits := range []Limits{{MemoryMiB: -1}, {MemoryMiB: 1 << 40}, {Pids: -1}, {Pids: 1 << 40}, {CPUs: -1}, {CPUs: 1e6}} {
		if limits.Check() == nil {
			t.Errorf("%+v was taken", limits)
		}
	}
}

func TestFrozenIsReadFromEvents(t *testing.T) {
	for text, want := range map[string]bool{"populated 1\nfrozen 1\n": true, "populated 1\nfrozen 0\n": false, "": false,
		"frozen 10\n": false} {
		if saysFrozen([]byte(text)) != want {
			t.Errorf("%q", text)
		}
	}
}

func TestNamesThatAMachineMayHave(t *testing.T) {
	for _, name := range []string{"", "a", "sb-01", "a.b-c", strings.Repeat("a", 64)} {
		if err := CheckIdentity(name, strings.Repeat("0f", 16)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"a b", "a\n", "-a", "a-", ".", "é", strings.Repeat("a", 65), "a\x00"} {
		if CheckIdentity(name, "") == nil {
			t.Errorf("%q was taken", name)
		}
	}
	for _, id := range []string{"0", strings.Repeat("0F", 16), strings.Repeat("g", 32), strings.Repeat("0", 31) + "\n"} {
		if CheckIdentity("", id) == nil {
			t.Errorf("%q was taken", id)
		}
	}
}

func TestOwnNameInHosts(t *testing.T) {
	for table, want := range map[string]string{
		"":                                     plainHosts + "127.0.1.1\tnew\n",
		"127.0.0.1 localhost\n127.0.1.1 old\n": "127.0.0.1 localhost\n127.0.1.1\tnew\n",
		"# mine\n\n127.0.1.1\told a b\n9.9.9.9 x": "# mine\n\n9.9.9.9 x\n127.0.1.1\tnew\n",
		"127.0.1.10 other\n":                      "127.0.1.10 other\n127.0.1.1\tnew\n",
	} {
		if got := hosts(table, "new"); got != want {
			t.Errorf("%q: %q", table, got)
		}
	}
}

func TestFilesAreChangedInTheirPlaceAndLinksAreReplaced(t *testing.T) {
	dir := t.TempDir()
	plain, link, fifo, other := filepath.Join(dir, "plain"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo"), filepath.Join(dir, "other")
	for place, content := range map[string]string{plain: "a longer text\n", other: "untouched"} {
		if err := os.WriteFile(place, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if os.Symlink(other, link) != nil || syscall.Mkfifo(fifo, 0o600) != nil {
		t.Fatal("no link or pipe")
	}
	for _, place := range []string{plain, link, fifo, filepath.Join(dir, "new")} {
		rewrite(place, "short\n")
		if got := readFile(place); got != "short\n" {
			t.Errorf("%s: %q", place, got)
		}
	}
	if readFile(other) != "untouched" {
		t.Error("a link led to another file")
	}
	rewrite(filepath.Join(dir, "no", "such"), "x")
}

func TestWhoGetsTheForkSignal(t *testing.T) {
	caught := "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000200\n"
	blocked := "SigBlk:\t0000000000000200\nSigCgt:\t0000000000000000\n"
	neither := "SigBlk:\t0000000000000001\nSigCgt:\t0000000000000002\n"
	for _, c := range []struct {
		environ, status string
		want            syscall.Signal
		ok              bool
	}{
		{"A=1\x00CLOCHE_FORK_SIGNAL=USR1\x00", caught, 10, true},
		{"CLOCHE_FORK_SIGNAL=10\x00", blocked, 10, true},
		{"CLOCHE_FORK_SIGNAL=SIGUSR1\x00", neither, 10, false},
		{"CLOCHE_FORK_SIGNAL=TERM\x00", neither, 15, true},
		{"CLOCHE_FORK_SIGNAL=0\x00", caught, 0, false},
		{"CLOCHE_FORK_SIGNAL=65\x00", caught, 0, false},
		{"CLOCHE_FORK_SIGNAL=x\x00", caught, 0, false},
		{"XCLOCHE_FORK_SIGNAL=10\x00", caught, 0, false},
		{"", caught, 0, false},
	} {
		read := func(place string) ([]byte, error) {
			if strings.HasSuffix(place, "/environ") {
				return []byte(c.environ), nil
			}
			return []byte(c.status), nil
		}
		if got, ok := forkSignal(7, read); ok != c.ok || ok && got != c.want {
			t.Errorf("%q: %v %v", c.environ, got, ok)
		}
	}
}
