// Package execstep is the last step before user code: a child of the guest takes the ids, limits and capabilities of the
// target and executes it. It runs inside the sandbox, already under the box's seccomp filter and Landlock rules.
package execstep

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"cloche/guest/internal/sys"
)

// MaxFiles is how many descriptors a command may be given.
const MaxFiles = 15

const (
	defaultPath = "/usr/local/bin:/usr/bin:/bin"
	rlimitNproc = 6
)

// Command is what to execute and as whom.
type Command struct {
	Argv     []string // not empty; a name without a slash is looked for in PATH of Env, as the target user
	Env      []string
	Cwd      string
	Files    []int // become descriptors 0, 1, 2 and so on, at most MaxFiles; nothing else stays open
	Terminal bool  // descriptor 0 becomes the controlling terminal
	SetIDs   bool  // false: only one id is mapped here, and the command keeps it
	UID, GID int
	Groups   []uint32
	// OpenFiles and Pids are limits of the command; 0 leaves what there is.
	OpenFiles, Pids uint64
	OOMScoreAdj     int
	// Group is the directory of a cgroup (version 2) in which the command begins, 0 for the guest's own. One that is at its
	// limit of processes takes no more: EAGAIN.
	Group int
	// AllOfRoot: root keeps every capability, as the kernel is the sandbox's own.
	AllOfRoot bool
}

// prepared is a command in the form in which a child can use it that may not allocate. Addresses are numbers there, as
// storing a pointer could call the garbage collector; kept holds what they point to.
type prepared struct {
	files      []uintptr // the last one is where a failure is told
	terminal   bool
	setIDs     bool
	uid, gid   uintptr
	groups     []uint32
	drop       []uintptr // capabilities that leave the bounding set
	limits     []rlimit
	cwd        uintptr
	adjustment []byte
	candidates []uintptr // paths to try
	argv       []uintptr
	shellArgv  []uintptr // for a text file without an interpreter line; its second place takes the path
	envv       []uintptr
	shell      uintptr
	group      uintptr
	kept       [][]byte
}

type rlimit struct {
	number uintptr
	value  [2]uint64
}

func (c *Command) prepare() (*prepared, error) {
	if len(c.Files) > MaxFiles {
		return nil, syscall.EMFILE
	}
	p := &prepared{terminal: c.Terminal, setIDs: c.SetIDs, uid: uintptr(c.UID), gid: uintptr(c.GID), groups: c.Groups,
		group: uintptr(c.Group)}
	limits, err := c.limits()
	if err != nil {
		return nil, err
	}
	p.limits = limits
	for _, fd := range c.Files {
		p.files = append(p.files, uintptr(fd))
	}
	if c.SetIDs {
		p.drop = c.dropped()
		p.adjustment = []byte(strconv.Itoa(c.OOMScoreAdj))
	}
	if err := p.addStrings(c); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *prepared) addStrings(c *Command) (err error) {
	if p.argv, err = p.list(c.Argv); err != nil {
		return err
	}
	if p.envv, err = p.list(c.Env); err != nil {
		return err
	}
	if p.candidates, err = p.list(candidates(c.Argv[0], c.Env)); err != nil {
		return err
	}
	// the last place is the end mark that execve wants
	p.candidates = p.candidates[:len(p.candidates)-1]
	two, err := p.list([]string{"sh", "/bin/sh"})
	if err != nil {
		return err
	}
	p.shell = two[1]
	p.shellArgv = append([]uintptr{two[0], 0}, p.argv[1:]...)
	cwd, err := p.list([]string{c.Cwd})
	if err == nil {
		p.cwd = cwd[0]
	}
	return err
}

// list is argv or envp as execve wants it, with its end mark.
func (p *prepared) list(texts []string) ([]uintptr, error) {
	places := make([]uintptr, 0, len(texts)+1)
	for _, text := range texts {
		bytes, err := syscall.ByteSliceFromString(text)
		if err != nil {
			return nil, err
		}
		p.kept = append(p.kept, bytes)
		places = append(places, uintptr(unsafe.Pointer(&bytes[0])))
	}
	return append(places, 0), nil
}

// limits: no core dumps, and what was asked for.
func (c *Command) limits() ([]rlimit, error) {
	limits := []rlimit{{syscall.RLIMIT_CORE, [2]uint64{}}}
	if c.OpenFiles > 0 {
		limits = append(limits, rlimit{syscall.RLIMIT_NOFILE, [2]uint64{c.OpenFiles, c.OpenFiles}})
	}
	if c.Pids == 0 {
		return limits, nil
	}
	most, err := c.Pids, error(nil)
	if !c.SetIDs {
		most, err = shared(c.Pids)
	}
	return append(limits, rlimit{rlimitNproc, [2]uint64{most, most}}), err
}

// shared: where user code has the guest's own id, the kernel counts the guest's threads with it, and it checks the limit
// at a fork, which the guest does under its own limit. With ids of its own the kernel does both.
func shared(most uint64) (uint64, error) {
	threads, _ := os.ReadDir("/proc/1/task")
	processes := uint64(0)
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if entry.Name()[0] >= '0' && entry.Name()[0] <= '9' && entry.Name() != "1" {
			processes++
		}
	}
	// the one to come is not there yet
	if processes >= most {
		return 0, syscall.EAGAIN
	}
	return most + uint64(len(threads)), nil
}

// dropped: root inside keeps what changing files and ids needs, or everything; every other user loses all capabilities
// for good.
func (c *Command) dropped() (drop []uintptr) {
	if c.UID == 0 && c.AllOfRoot {
		return nil
	}
	keep := map[int]bool{}
	if c.UID == 0 {
		for _, c := range []int{sys.CapChown, sys.CapDacOverride, sys.CapFowner, sys.CapFsetid, sys.CapKill, sys.CapSetgid,
			sys.CapSetuid, sys.CapNetBindService} {
			keep[c] = true
		}
	}
	for _, c := range bounding() {
		if !keep[c] {
			drop = append(drop, uintptr(c))
		}
	}
	return drop
}

// bounding never changes in the guest, whose threads all have what the engine left them.
var bounding = sync.OnceValue(sys.Bounding)

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
