package contexts

import (
	"encoding/binary"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloche/guest/internal/procs"
	"cloche/guest/internal/wire"
)

// language is how one kind of interpreter is found, started and spoken to.
type language struct {
	name    string
	names   []string // of the command, the best first
	argv    func(path string) []string
	first   func() string // what it reads before anything else
	code    func(number int, code string) []byte
	env     func(changes []string) []byte
	dir     func(cwd string) []byte
	refuses func(code string) string // why it cannot be given this code at all
	reseed  func(l *link)            // its generators of random numbers
	oldest  [2]int
	misses  bool // signals that come as it starts a program
	onStdin bool // it reads from descriptor 0 what others read from 3
	stopper bool // its program hears on descriptor 5 which execution is to stop; signals are for its children
}

func takesAll(string) string { return "" }

var languages = map[string]*language{
	"python": {name: "python", names: []string{"python3", "python"}, argv: pythonArgv,
		first: func() string { return pythonProgram }, code: codeFrame, env: envFrame, dir: dirFrame, refuses: takesAll, reseed: reseedBySignal, oldest: [2]int{3, 8}},
	"javascript": {name: "javascript", names: []string{"node", "nodejs"}, argv: nodeArgv,
		first: nodeFirst, code: codeFrame, env: envFrame, dir: dirFrame, refuses: takesAll, reseed: reseedNothing, oldest: [2]int{16, 0}, misses: true, stopper: true},
	"bash": {name: "bash", names: []string{"bash"}, argv: bashArgv,
		first: func() string { return bashProgram }, code: bashCode, env: bashEnv, dir: bashDir, refuses: bashRefuses, reseed: reseedBash, oldest: [2]int{4, 0}, onStdin: true, misses: true},
}

func codeFrame(number int, code string) []byte {
	payload := make([]byte, 4, 4+len(code))
	binary.BigEndian.PutUint32(payload, uint32(number))
	return frame(frameCode, append(payload, code...))
}

func envFrame(changes []string) []byte {
	if len(changes) == 0 {
		return nil
	}
	return frame(frameEnv, []byte(strings.Join(changes, "\x00")))
}

func dirFrame(cwd string) []byte { return frame(frameDir, []byte(cwd)) }

// difference lists "NAME=value" for what is new or other in now, and "NAME" for what is gone.
func difference(before, now []string) []string {
	old := map[string]bool{}
	for _, entry := range before {
		old[entry] = true
	}
	names := map[string]bool{}
	var changes []string
	for _, entry := range now {
		name, _, _ := strings.Cut(entry, "=")
		if names[name] = true; !old[entry] {
			changes = append(changes, entry)
		}
	}
	for _, entry := range before {
		if name, _, _ := strings.Cut(entry, "="); !names[name] {
			changes = append(changes, name)
		}
	}
	sort.Strings(changes)
	return changes
}

// find returns the paths of its commands that there are.
func (l *language) find(cwd string, env []string) (paths []string) {
	for _, name := range l.names {
		if path, err := procs.LookPath(name, cwd, env); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

func missing(name string) *wire.Error {
	return wire.Errorf("interpreter_missing", "the image of this sandbox has no interpreter for %s", name).With("language", name)
}

// withLanguages adds those that there are to the error that one is missing.
func (m *Manager) withLanguages(err error) error {
	if known := wire.FromErr(err); known.Code == "interpreter_missing" {
		return known.With("languages", m.Languages())
	}
	return err
}

// Languages are those whose interpreter a new context would find.
func (m *Manager) Languages() []string {
	env, cwd, _ := m.procs.HiddenEnv(procs.HiddenSpec{})
	found := []string{}
	for _, name := range wire.Languages {
		for _, path := range languages[name].find(cwd, env) {
			if m.suits(languages[name], path, procs.HiddenSpec{}) {
				found = append(found, name)
				break
			}
		}
	}
	return found
}

// verdicts remembers which interpreters are new enough, by path and what the file is.
type verdicts struct {
	mu    sync.Mutex
	known map[string]bool
}

func (m *Manager) suits(l *language, path string, spec procs.HiddenSpec) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	key := fmt.Sprint(path, info.Size(), info.ModTime())
	m.verdicts.mu.Lock()
	defer m.verdicts.mu.Unlock()
	suits, known := m.verdicts.known[key]
	if !known {
		spec.Argv = []string{path, "--version"}
		suits = newEnough(m.ask(spec), l.oldest)
		if m.verdicts.known == nil || len(m.verdicts.known) > 64 {
			m.verdicts.known = map[string]bool{}
		}
		m.verdicts.known[key] = suits
	}
	return suits
}

// newEnough finds the first number with a dot in what an interpreter says of itself.
func newEnough(answer string, oldest [2]int) bool {
	start := strings.IndexAny(answer, "0123456789")
	if start < 0 {
		return false
	}
	parts := strings.FieldsFunc(answer[start:], func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return false
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return major > oldest[0] || major == oldest[0] && minor >= oldest[1]
}

const answersWithin = 5 * time.Second

// ask runs a command and returns the first 4 KiB that it prints.
func (m *Manager) ask(spec procs.HiddenSpec) string {
	var ends [2]int
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer syscall.Close(null)
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return ""
	}
	_ = syscall.SetNonblock(ends[0], true)
	answer := os.NewFile(uintptr(ends[0]), "answer")
	defer answer.Close()
	spec.Files = []int{null, ends[1], ends[1]}
	asked, err := m.procs.StartHidden(spec, func(procs.HiddenEnd) {})
	_ = syscall.Close(ends[1])
	if err != nil {
		return ""
	}
	defer asked.Kill()
	_ = answer.SetReadDeadline(time.Now().Add(answersWithin))
	buf := make([]byte, 4096)
	n, _ := answer.Read(buf)
	return string(buf[:max(n, 0)])
}
