// Package execstep is the last step before user code: it takes the ids, limits and capabilities of the target and
// executes it. It runs inside the sandbox, already under the box's seccomp filter and Landlock rules.
package execstep

import (
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"cloche/guest/internal/sys"
	"cloche/guest/internal/wire"
)

const (
	exitCannotExecute = 126
	exitNotFound      = 127
	rlimitNproc       = 6
	defaultPath       = "/usr/local/bin:/usr/bin:/bin"
)

var rlimitNumbers = map[string]int{"core": syscall.RLIMIT_CORE, "nofile": syscall.RLIMIT_NOFILE, "nproc": rlimitNproc}

// Main never returns. args are what follows argv[0]: SPEC -- CMD ARGS…
func Main(args []string) {
	// ids, capabilities and limits are a thread's: everything up to execve must happen on one
	runtime.LockOSThread()
	var spec wire.ExecSpec
	if len(args) < 3 || args[1] != "--" || json.Unmarshal([]byte(args[0]), &spec) != nil {
		os.Stderr.WriteString("cloche-exec: bad arguments\n")
		os.Exit(exitCannotExecute)
	}
	syscall.CloseOnExec(spec.StatusFD)
	if stage, err := prepare(&spec); err != nil {
		fail(&spec, stage, err, exitCannotExecute)
	}
	run(&spec, args[2:])
}

func prepare(spec *wire.ExecSpec) (string, error) {
	if spec.OOMScoreAdj > 0 {
		// best effort: user code goes before the guest when memory runs out
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(spec.OOMScoreAdj)), 0)
	}
	if stage, err := sharePids(spec); err != nil {
		return stage, err
	}
	for name, value := range spec.Rlimits {
		limit := [2]uint64{value, value}
		_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(rlimitNumbers[name]), uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
		// a limit that is lower already may not be raised, and need not be
		if e != 0 && e != syscall.EPERM {
			return "rlimit", e
		}
	}
	if spec.SetIDs {
		if err := takeIDs(spec); err != nil {
			return "setuid", err
		}
	}
	if spec.Cwd != "" {
		if err := syscall.Chdir(string(spec.Cwd)); err != nil {
			return "chdir", err
		}
	}
	return "", nil
}

// sharePids: where user code has the guest's own id, the kernel counts the guest's threads with it, and it checks the limit
// at a fork, which the guest did under its own limit, but not at this exec. With ids of its own the kernel does both.
func sharePids(spec *wire.ExecSpec) (string, error) {
	most, limited := spec.Rlimits["nproc"]
	if spec.SetIDs || !limited {
		return "", nil
	}
	threads, _ := os.ReadDir("/proc/1/task")
	spec.Rlimits["nproc"] = most + uint64(len(threads))
	processes := uint64(0)
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if entry.Name()[0] >= '0' && entry.Name()[0] <= '9' && entry.Name() != "1" {
			processes++
		}
	}
	if processes > most {
		return "execve", syscall.EAGAIN
	}
	return "", nil
}

// takeIDs: root inside keeps what changing files and ids needs; every other user loses all capabilities for good.
func takeIDs(spec *wire.ExecSpec) error {
	keep := []int{}
	if spec.UID == 0 {
		keep = []int{sys.CapChown, sys.CapDacOverride, sys.CapFowner, sys.CapFsetid, sys.CapKill, sys.CapSetgid,
			sys.CapSetuid, sys.CapNetBindService}
	}
	if err := sys.DropBounding(keep...); err != nil {
		return err
	}
	return sys.SetIds(spec.UID, spec.GID, spec.Groups)
}

func run(spec *wire.ExecSpec, argv []string) {
	env := os.Environ()
	sys.ResetSignals()
	errno := syscall.ENOENT
	stage := "lookup"
	for _, path := range candidates(argv[0], env) {
		e := execOrShell(path, argv, env)
		if e == syscall.ENOENT || e == syscall.ENOTDIR {
			continue
		}
		errno, stage = e, "execve"
		if e != syscall.EACCES {
			break
		}
	}
	code := exitCannotExecute
	if errno == syscall.ENOENT {
		code = exitNotFound
	}
	fail(spec, stage, errno, code)
}

// execOrShell does what execvp(3) does with a text file that has no interpreter line.
func execOrShell(path string, argv, env []string) syscall.Errno {
	e := sys.Exec(path, argv, env)
	if e == syscall.ENOEXEC {
		return sys.Exec("/bin/sh", append([]string{"sh", path}, argv[1:]...), env)
	}
	return e
}

func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	search := defaultPath
	for _, pair := range env {
		if strings.HasPrefix(pair, "PATH=") {
			search = pair[len("PATH="):]
		}
	}
	var paths []string
	for _, dir := range strings.Split(search, ":") {
		if dir == "" {
			dir = "."
		}
		paths = append(paths, dir+"/"+name)
	}
	return paths
}

func fail(spec *wire.ExecSpec, stage string, err error, code int) {
	errno, _ := err.(syscall.Errno)
	body, _ := json.Marshal(wire.ExecFailure{Stage: stage, Errno: errno, Message: err.Error()})
	_, _ = syscall.Write(spec.StatusFD, append(body, '\n'))
	os.Exit(code)
}
