package server

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"cloche/guest/internal/wire"
)

func TestExitCodes(t *testing.T) {
	g := newGuest(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -9 $$": 137, "kill -15 $$": 143, "exit 255": 255} {
		if r := g.run(shell(script)); *r.exited.ExitCode != want || r.exited.LimitHit != nil {
			t.Errorf("%s: %d, limit %v", script, *r.exited.ExitCode, r.exited.LimitHit)
		}
	}
	r := g.run(shell("kill -9 $$"))
	if r.exited.Signal == nil || *r.exited.Signal != 9 {
		t.Error("the signal is not told")
	}
}

func TestWhatCannotStartIsAResult(t *testing.T) {
	g := newGuest(t)
	plain := g.dir + "/plain"
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := map[int][]map[string]any{
		127: {{"argv": []string{"no-such-command"}}, {"argv": []string{"/no/such/file"}}},
		126: {{"argv": []string{plain}}, with(shell("true"), "cwd", "/no/such/dir"), with(shell("true"), "user", "nobody-here")},
	}
	for code, specs := range cases {
		for _, spec := range specs {
			r := g.run(spec)
			if *r.exited.ExitCode != code || r.exited.Error == nil || r.exited.State != "exited" {
				t.Errorf("%v: %d %v", spec, *r.exited.ExitCode, r.exited.Error)
			}
		}
	}
}

func TestBothStreamsEnvironmentAndReceipt(t *testing.T) {
	g := newGuest(t)
	g.call(204, "PUT", "/v1/session", `{"user":"me","env":{"A":"1","B":"1","C":"1"},"session_env":{"B":"2","C":"2"}}`)
	spec := with(shell(`printf "$A$B$C $USER $LANG $PWD"; printf err >&2`), "env", map[string]string{"C": "3"})
	r := g.run(with(spec, "tag", "t"))
	if string(r.out[0]) != "123 me C.UTF-8 "+g.dir || string(r.out[1]) != "err" {
		t.Errorf("%q %q", r.out[0], r.out[1])
	}
	use := r.exited.Usage
	if use == nil || use.OutputBytes != int64(len(r.out[0])+3) || use.WallSeconds <= 0 || use.PeakMemoryBytes <= 0 {
		t.Errorf("%+v", use)
	}
	if *r.exited.Tag != "t" || r.started.State != "running" {
		t.Error("tag or state")
	}
}

func TestRawBytesInArgvEnvAndOutput(t *testing.T) {
	g := newGuest(t)
	r := decodeFollow(g, `{"argv":["sh","-c","printf '%s|%s' \"$1\" \"$X\"","sh","caf\udce9"],"env":{"X":"\udcff\u0001"}}`)
	if string(r.out[0]) != "caf\xe9|\xff\x01" || r.exited.Argv[4] != "caf\xe9" {
		t.Errorf("%q", r.out[0])
	}
}

func decodeFollow(g *guest, body string) result {
	response := g.open("POST", "/v1/processes?follow=1", body)
	defer response.Body.Close()
	return collectFrames(g.t, response.Body)
}

func TestTimeoutEndsAlsoWhatIgnoresIt(t *testing.T) {
	g := newGuest(t)
	r := g.run(with(shell("trap '' TERM; while :; do sleep 1; done"), "timeout_seconds", 0.2))
	if *r.exited.ExitCode != 124 || *r.exited.LimitHit != "timeout" || *r.exited.Signal != 9 {
		t.Errorf("%+v", r.exited)
	}
	r = g.run(with(shell("sleep 60"), "timeout_seconds", 0.1))
	if *r.exited.ExitCode != 124 || *r.exited.Signal != 15 {
		t.Errorf("%+v", r.exited)
	}
}

func TestOutputLimit(t *testing.T) {
	g := newGuest(t)
	r := g.run(with(shell("cat /dev/zero"), "output_limit_bytes", 100_000))
	if *r.exited.ExitCode != 137 || *r.exited.LimitHit != "output" || len(r.out[0]) != 100_000 {
		t.Errorf("%d bytes, %+v", len(r.out[0]), r.exited)
	}
	r = g.run(with(shell("printf 12345"), "output_limit_bytes", 5))
	if *r.exited.ExitCode != 0 || r.exited.LimitHit != nil {
		t.Error("exactly the limit is allowed")
	}
}

func TestLargeOutputArrivesWholeAndBeforeTheEnd(t *testing.T) {
	g := newGuest(t)
	r := g.run(shell("head -c 20000000 /dev/zero; seq 1 100000 >&2"))
	if len(r.out[0]) != 20_000_000 || r.lost != [2]uint64{} || !bytes.HasSuffix(r.out[1], []byte("99999\n100000\n")) {
		t.Errorf("%d bytes, lost %v", len(r.out[0]), r.lost)
	}
}

func TestUnreadOutputIsBoundedAndTheGapIsTold(t *testing.T) {
	g := newGuest(t)
	info := g.start(shell("seq 1 1000000"))
	end := g.wait(info.ID)
	response := g.open("GET", "/v1/processes/"+info.ID+"/output", nil)
	defer response.Body.Close()
	r := collectFrames(t, response.Body)
	if len(r.out[0]) != testRing || r.lost[0] != uint64(end.StdoutBytes-testRing) || r.exited == nil {
		t.Errorf("kept %d lost %d of %d", len(r.out[0]), r.lost[0], end.StdoutBytes)
	}
	tail := g.open("GET", "/v1/processes/"+info.ID+"/output?stdout_offset=-8", nil)
	defer tail.Body.Close()
	f, err := readFrame(tail.Body)
	if err != nil || string(f.payload) != "1000000\n" || f.offset != uint64(end.StdoutBytes-8) {
		t.Errorf("%q at %d, %v", f.payload, f.offset, err)
	}
}

func TestReconnectLosesAndDoublesNothing(t *testing.T) {
	g := newGuest(t)
	info := g.start(with(shell("read go; seq 1 60000; seq 1 300 >&2"), "stdin", true))
	var r result
	for connection := 0; r.exited == nil; connection++ {
		at := fmt.Sprintf("?follow=1&stdout_offset=%d&stderr_offset=%d", r.next[0], r.next[1])
		response := g.open("GET", "/v1/processes/"+info.ID+"/output"+at, nil)
		if connection == 0 {
			g.call(200, "POST", "/v1/processes/"+info.ID+"/stdin", "go\n")
		}
		for n := 0; n <= connection; n++ { // then the client goes away in mid-stream
			f, err := readFrame(response.Body)
			if err != nil {
				break
			}
			r.take(t, f)
		}
		response.Body.Close()
	}
	var want strings.Builder
	for i := 1; i <= 60000; i++ {
		fmt.Fprintln(&want, i)
	}
	missing := int(r.lost[0]) // while nobody was attached the ring may overrun, and says so
	if missing == 0 && string(r.out[0]) != want.String() || missing+len(r.out[0]) != want.Len() {
		t.Errorf("%d + %d of %d bytes", len(r.out[0]), missing, want.Len())
	}
}

func TestBackgroundChildDoesNotHoldTheEndBack(t *testing.T) {
	g := newGuest(t)
	r := g.run(shell("sleep 30 & echo started"))
	if string(r.out[0]) != "started\n" || r.exited.Usage.WallSeconds > 5 {
		t.Errorf("%q %+v", r.out[0], r.exited.Usage)
	}
	r = g.run(shell("yes & head -c 3000000 /dev/zero | tr '\\0' x >&2; kill -9 $!; wait; sleep 30 & exit 4"))
	if *r.exited.ExitCode != 4 || len(r.out[1]) != 3000000 {
		t.Errorf("%d: %d bytes", *r.exited.ExitCode, len(r.out[1]))
	}
}

func TestSignalGroupAndDelete(t *testing.T) {
	g := newGuest(t)
	info := g.start(shell("sleep 60 & sleep 60"))
	one := "/v1/processes/" + info.ID
	g.call(204, "POST", one+"/signal", `{"signal":"sigterm"}`)
	if end := g.wait(info.ID); *end.ExitCode != 143 {
		t.Errorf("%d", *end.ExitCode)
	}
	if code := g.code("POST", one+"/signal", `{"signal":9}`); code != "wrong_state" {
		t.Error(code)
	}
	if code := g.code("POST", one+"/signal", `{"signal":"NOPE"}`); code != "invalid" {
		t.Error(code)
	}
	g.call(204, "DELETE", one, nil)
	if code := g.code("GET", one, nil); code != "not_found" {
		t.Error(code)
	}
}

func TestDeleteKillsTheWholeSession(t *testing.T) {
	g := newGuest(t)
	// set -m puts the job into a group of its own, still in the session
	info := g.start(shell("set -m; sh -c 'echo $$ > pid; mkfifo f; exec sleep 60' & wait"))
	response := g.open("GET", "/v1/processes/"+info.ID+"/output?follow=1", nil)
	defer response.Body.Close()
	g.run(shell("while ! [ -p f ]; do :; done"))
	pid, err := os.ReadFile(g.dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	g.call(204, "DELETE", "/v1/processes/"+info.ID, nil)
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
	if err == nil && !bytes.Contains(state, []byte(") Z")) && !bytes.Contains(state, []byte(") X")) {
		t.Errorf("still there: %s", state)
	}
}

func TestRefusedRequests(t *testing.T) {
	g := newGuest(t)
	for _, body := range []string{`{}`, `{"argv":[]}`, `{"argv":[""]}`, `{"argv":["a\u0000b"]}`, `{"argv":["true"],"nope":1}`,
		`{"argv":"true"}`, `{"argv":["true"],"timeout_seconds":0}`, `{"argv":["true"],"env":{"A=B":"c"}}`, `{"argv":["true"]} x`,
		`{"argv":["true"],"pty":{"rows":-1}}`, `{"argv":["true"],"env":{"A":1}}`, `[`, `{"argv":["\ud800"]}`} {
		if code := g.code("POST", "/v1/processes", body); code != "invalid" {
			t.Errorf("%s: %q", body, code)
		}
	}
	if code := g.code("GET", "/v1/nothing", nil); code != "not_found" {
		t.Error(code)
	}
	if code := g.code("POST", "/v1/processes?folow=1", `{"argv":["true"]}`); code != "invalid" {
		t.Error(code)
	}
}

func TestMegabyteOfEnvironment(t *testing.T) {
	g := newGuest(t)
	env := map[string]string{}
	for i := 0; i < 16; i++ {
		env[fmt.Sprintf("V%d", i)] = strings.Repeat("x", 64<<10)
	}
	if r := g.run(with(shell("printf ${#V9}"), "env", env)); string(r.out[0]) != "65536" {
		t.Errorf("%q %v", r.out[0], r.exited.Error)
	}
	env["HUGE"] = strings.Repeat("x", 3<<20) // more than the kernel passes
	if r := g.run(with(shell("true"), "env", env)); *r.exited.ExitCode != 126 {
		t.Errorf("%+v", r.exited)
	}
}

func TestNewestExitedProcessesAreKept(t *testing.T) {
	g := newGuest(t)
	for i := 0; i < 300; i++ {
		g.start(map[string]any{"argv": []string{"no-such-command"}})
	}
	var list struct{ Processes []wire.ProcessInfo }
	decodeJSON(t, g.call(200, "GET", "/v1/processes", nil), &list)
	if len(list.Processes) != 256 || list.Processes[0].StartedAt > list.Processes[255].StartedAt {
		t.Errorf("%d", len(list.Processes))
	}
}
