package execstep

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// run starts the command and returns what it wrote, how it failed to start, and its status.
func run(t *testing.T, command Command) (string, *Failure, syscall.WaitStatus) {
	t.Helper()
	reading, writing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	command.Files = []int{int(null.Fd()), int(writing.Fd()), int(writing.Fd())}
	if command.Cwd == "" {
		command.Cwd = "/"
	}
	child, err := command.Start()
	if err != nil {
		t.Fatal(err)
	}
	writing.Close()
	failure := child.Outcome()
	output := make([]byte, 64<<10)
	length := 0
	for n := 1; n > 0; length += n {
		n, _ = reading.Read(output[length:])
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(child.Pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return string(output[:length]), failure, status
}

func script(text string) Command {
	return Command{Argv: []string{"sh", "-c", text}, Env: []string{"PATH=/usr/bin:/bin", "HERE=x"}}
}

func TestTheCommandGetsNothingButWhatItIsGiven(t *testing.T) {
	stray, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, stray.Fd(), syscall.F_SETFD, 0) // not closed on exec
	command := script(`echo $HERE $PWD; ls /proc/self/fd; ulimit -n; grep -E "^Sig(Blk|Ign)" /proc/self/status; ps -o sid= -p $$; echo $$`)
	command.Cwd, command.OpenFiles = "/usr", 99
	output, failure, status := run(t, command)
	lines := strings.Fields(output)
	want := []string{"x", "/usr", "0", "1", "2", "3", "99", "SigBlk:", "0000000000000000", "SigIgn:", "0000000000000000"}
	if failure != nil || status != 0 || len(lines) != len(want)+2 || !slices.Equal(lines[:len(want)], want) {
		t.Fatalf("%q %v %v", output, failure, status)
	}
	if lines[len(want)] != lines[len(want)+1] {
		t.Errorf("not the leader of a session of its own: %q", lines[len(want):])
	}
}

func TestWhyACommandDidNotStart(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("echo never"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv, cwd string
		want      Failure
		code      int
	}{
		{"no-such", "/", Failure{"lookup", syscall.ENOENT}, 127},
		{"./no-such", "/", Failure{"lookup", syscall.ENOENT}, 127},
		{plain, "/", Failure{"execve", syscall.EACCES}, 126},
		{"plain", "/", Failure{"execve", syscall.EACCES}, 126},
		{dir, "/", Failure{"execve", syscall.EACCES}, 126},
		{"sh", dir + "/no", Failure{"chdir", syscall.ENOENT}, 126},
		{"sh", plain, Failure{"chdir", syscall.ENOTDIR}, 126},
	} {
		_, failure, status := run(t, Command{Argv: []string{c.argv}, Cwd: c.cwd, Env: []string{"PATH=" + dir + ":/nowhere"}})
		if failure == nil || *failure != c.want || status.ExitStatus() != c.code {
			t.Errorf("%s in %s: %v %v", c.argv, c.cwd, failure, status)
		}
	}
}

func TestTextWithoutAnInterpreterLineIsAShellScript(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/text", []byte(`echo "$0 $*"`), 0o755); err != nil {
		t.Fatal(err)
	}
	output, failure, _ := run(t, Command{Argv: []string{"text", "a", "b"}, Env: []string{"PATH=" + dir}})
	if failure != nil || output != dir+"/text a b\n" {
		t.Errorf("%q %v", output, failure)
	}
}

func TestANameWithAZeroByteIsRefused(t *testing.T) {
	for _, command := range []Command{{Argv: []string{"a\x00b"}}, {Argv: []string{"sh"}, Env: []string{"A=\x00"}},
		{Argv: []string{"sh"}, Cwd: "/\x00"}} {
		if _, err := command.Start(); err == nil {
			t.Errorf("%q was started", command.Argv)
		}
	}
}

func TestIdsAndCapabilitiesOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may take other ids")
	}
	command := script(`grep -E "^(Uid|Gid|Groups|Cap)" /proc/self/status | tr "\n" " "; cat /proc/self/oom_score_adj`)
	command.SetIDs, command.UID, command.GID, command.Groups, command.OOMScoreAdj = true, 4321, 4322, []uint32{7, 8}, 500
	output, failure, _ := run(t, command)
	nothing := "0000000000000000"
	want := []string{"Uid:", "4321", "4321", "4321", "4321", "Gid:", "4322", "4322", "4322", "4322", "Groups:", "7", "8",
		"CapInh:", nothing, "CapPrm:", nothing, "CapEff:", nothing, "CapBnd:", nothing, "CapAmb:", nothing, "500"}
	if failure != nil || !slices.Equal(strings.Fields(output), want) {
		t.Errorf("%v %q", failure, output)
	}
}

func TestManyAtOnceWhileMemoryIsCollected(t *testing.T) {
	done := make(chan string)
	for range 4 {
		go func() {
			for range 25 {
				garbage := make([][]byte, 1000)
				for i := range garbage {
					garbage[i] = make([]byte, 1024)
				}
				if output, failure, _ := run(t, script("echo $HERE")); failure != nil || output != "x\n" {
					done <- output
					return
				}
			}
			done <- ""
		}()
	}
	for range 4 {
		if bad := <-done; bad != "" {
			t.Errorf("%q", bad)
		}
	}
}
