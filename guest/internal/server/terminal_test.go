package server

import "testing"

func terminal(argv ...string) map[string]any {
	return map[string]any{"argv": argv, "pty": map[string]any{}}
}

func TestEndOfInputOnATerminalEndsTheCommandByItself(t *testing.T) {
	g := newGuest(t)
	for i := 0; i < 100; i++ {
		info := g.start(terminal("cat"))
		g.call(200, "POST", "/v1/processes/"+info.ID+"/stdin", "hello\n")
		g.call(204, "POST", "/v1/processes/"+info.ID+"/stdin/close", nil)
		if end := g.wait(info.ID); *end.ExitCode != 0 {
			t.Fatalf("round %d: %d, limit %v", i, *end.ExitCode, end.LimitHit)
		}
	}
}

func TestATerminalThatWasLetGoCanBeOpenedAgain(t *testing.T) {
	g := newGuest(t)
	script := "echo one; exec 0</dev/null 1>/dev/null 2>/dev/null; sleep 0.05; seq 1 20000 > /dev/tty; exit 3"
	r := g.run(terminal("sh", "-c", script))
	if *r.exited.ExitCode != 3 || len(r.out[0]) < 100_000 || string(r.out[0][len(r.out[0])-7:]) != "20000\r\n" {
		t.Errorf("%d, %d bytes", *r.exited.ExitCode, len(r.out[0]))
	}
}

func TestACommandThatLetsItsTerminalGoIsNotWaitedForLonger(t *testing.T) {
	g := newGuest(t)
	r := g.run(terminal("sh", "-c", "exec 0</dev/null 1>/dev/null 2>/dev/null; sleep 0.05"))
	if *r.exited.ExitCode != 0 || r.exited.Usage.WallSeconds > 5 {
		t.Errorf("%+v", r.exited)
	}
}
