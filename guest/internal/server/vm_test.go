package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cloche/guest/internal/machine"
)

// fakeMachine writes down what is done to it; it fails at what `broken` names.
type fakeMachine struct {
	done   []string
	broken string
}

func (m *fakeMachine) did(what string, args ...any) error {
	m.done = append(m.done, strings.TrimSpace(fmt.Sprintln(append([]any{what}, args...)...)))
	if what == m.broken {
		return errors.New("broken")
	}
	return nil
}

func (m *fakeMachine) Freeze() error                  { return m.did("freeze") }
func (m *fakeMachine) Thaw() error                    { return m.did("thaw") }
func (m *fakeMachine) Identify(name, id string) error { return m.did("identify", name, id) }
func (m *fakeMachine) SetClock(seconds float64) error { return m.did("clock", seconds) }
func (m *fakeMachine) Reseed(entropy []byte) error    { return m.did("reseed", len(entropy)) }
func (m *fakeMachine) Limit(l machine.Limits) error {
	return m.did("limit", l.MemoryMiB, l.Pids, l.CPUs)
}
func (m *fakeMachine) TellForked() { _ = m.did("tell") }

func machineGuest(t *testing.T) (*guest, *fakeMachine) {
	t.Helper()
	m := &fakeMachine{}
	return newGuestOf(t, func(config *Config) { config.Machine, config.OwnKernel = m, true }), m
}

func wakeBody(changes map[string]any) string {
	body := map[string]any{"sandbox_id": "sb_new", "nonce": "new", "hostname": "new", "machine_id": strings.Repeat("a", 32),
		"time": 5.5, "entropy": base64.StdEncoding.EncodeToString(make([]byte, 64)), "forked": true, "memory_mib": 256,
		"pids": 10, "cpus": 1.5}
	for name, value := range changes {
		body[name] = value
	}
	encoded, _ := json.Marshal(body)
	return string(encoded)
}

func TestOnlyAGuestWithItsOwnKernelSleeps(t *testing.T) {
	g := newGuest(t)
	for route, body := range map[string]string{"/v1/freeze": "", "/v1/thaw": "", "/v1/wake": wakeBody(nil)} {
		if code := g.code("POST", route, body); code != "unavailable_here" {
			t.Errorf("%s: %q", route, code)
		}
	}
}

func TestWakingHasAnOrderAndThawsLast(t *testing.T) {
	g, m := machineGuest(t)
	g.call(204, "POST", "/v1/freeze", "")
	g.call(204, "POST", "/v1/wake", wakeBody(nil))
	want := []string{"freeze", "identify new " + strings.Repeat("a", 32), "clock 5.5", "reseed 64", "limit 256 10 1.5", "tell", "thaw"}
	if !slices.Equal(m.done, want) {
		t.Errorf("%q", m.done)
	}
	if health := string(g.call(200, "GET", "/v1/health", nil)); !strings.Contains(health, `"nonce":"new"`) ||
		!strings.Contains(health, `"sandbox_id":"sb_new"`) {
		t.Error(health)
	}
	m.done = nil
	g.call(204, "POST", "/v1/wake", wakeBody(map[string]any{"forked": false}))
	if slices.Contains(m.done, "tell") || m.done[len(m.done)-1] != "thaw" {
		t.Errorf("%q", m.done)
	}
}

func TestWhatIsWrongChangesNothing(t *testing.T) {
	g, m := machineGuest(t)
	for field, value := range map[string]any{"hostname": "a b", "machine_id": "x", "time": 0, "entropy": "QQ==", "memory_mib": -1,
		"pids": -1, "cpus": 1e9, "unknown": 1} {
		if code := g.code("POST", "/v1/wake", wakeBody(map[string]any{field: value})); code != "invalid" {
			t.Errorf("%s: %q", field, code)
		}
	}
	if len(m.done) > 0 {
		t.Errorf("%q", m.done)
	}
}

func TestAMachineThatCannotWakeStaysFrozen(t *testing.T) {
	g, m := machineGuest(t)
	g.call(204, "POST", "/v1/freeze", "")
	m.broken = "clock"
	if g.code("POST", "/v1/wake", wakeBody(nil)) == "" || slices.Contains(m.done, "thaw") {
		t.Errorf("%q", m.done)
	}
	m.broken = ""
	g.call(204, "POST", "/v1/thaw", "")
}

func TestWhatIsStartedWhileFrozenRunsAfterwards(t *testing.T) {
	g, m := machineGuest(t)
	for range 2 {
		g.call(204, "POST", "/v1/freeze", "")
	}
	ended := make(chan result, 1)
	go func() { ended <- g.run(shell("echo ran")) }()
	select {
	case <-ended:
		t.Fatal("it ran while frozen")
	case <-time.After(50 * time.Millisecond): // less would only make the test weaker
	}
	g.call(204, "POST", "/v1/thaw", "")
	if r := <-ended; string(r.out[0]) != "ran\n" {
		t.Errorf("%q", r.out[0])
	}
	g.call(204, "POST", "/v1/thaw", "")
	m.broken = "freeze"
	if code := g.code("POST", "/v1/freeze", ""); code != "wrong_state" {
		t.Error(code)
	}
	if r := g.run(shell("echo again")); string(r.out[0]) != "again\n" {
		t.Errorf("%q", r.out[0])
	}
}

// TestContextsHaveOtherSeedsAfterwards: after one seed, the numbers of a context are known, unless it was woken between.
func TestContextsHaveOtherSeedsAfterwards(t *testing.T) {
	g, _ := machineGuest(t)
	for _, c := range []struct{ language, program, begin, then, known string }{
		{"python", "python3", "import random, tempfile; random.seed(1); tempfile._get_candidate_names().rng.seed(1)", "random.random()",
			"0.13436424411240122"},
		{"bash", "bash", "RANDOM=5", "echo $RANDOM $RANDOM $RANDOM", ""},
	} {
		if _, err := exec.LookPath(c.program); err != nil {
			t.Logf("no %s here", c.program)
			continue
		}
		said := func(code string) string {
			body, _ := json.Marshal(map[string]any{"language": c.language, "code": code})
			return unnumbered.ReplaceAllString(string(g.call(200, "POST", "/v1/executions", string(body))), "")
		}
		said(c.begin)
		before := said(c.then)
		said(c.begin)
		if again := said(c.then); again != before || !strings.Contains(before, c.known) {
			t.Errorf("seeds of %s do not hold: %s %s", c.language, before, again)
		}
		said(c.begin)
		g.call(204, "POST", "/v1/wake", wakeBody(nil))
		if after := said(c.then); after == before {
			t.Errorf("%s: %s", c.language, after)
		}
	}
}

// unnumbered takes out of events what differs each time.
var unnumbered = regexp.MustCompile(`"(execution_id|context_id|started_at|wall_seconds|number|at)":[^,}]*`)
