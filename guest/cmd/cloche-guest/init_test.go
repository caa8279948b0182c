package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startInit runs the guest as PID 1 of fresh user and pid namespaces, with the launcher as its exec step.
func startInit(t *testing.T) *http.Client {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "cloche-guest"), "cloche/guest/cmd/cloche-guest")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := exec.Command("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "true").Run(); err != nil {
		t.Skipf("no user and pid namespaces through unshare(1) on this machine: %v", err)
	}
	held, lifeline, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	listening, err := listener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	guest := exec.Command("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", filepath.Join(dir, "cloche-guest"))
	guest.ExtraFiles = []*os.File{held, listening, listening} // the last one is a stray that nobody tells of
	guest.Env = []string{"CLOCHE_LIFELINE_FD=3", "CLOCHE_LISTEN_FD=4", "CLOCHE_SHARED_UID=1", "CLOCHE_NONCE=n"}
	guest.Stderr = os.Stderr
	if err := guest.Start(); err != nil {
		t.Fatal(err)
	}
	held.Close()
	listening.Close()
	t.Cleanup(func() {
		lifeline.Close() // it must end by that alone
		if err := guest.Wait(); err != nil {
			t.Errorf("the guest ended with %v", err)
		}
		listener.Close()
	})
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }
	client := &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Minute}
	if text := call(t, client, "PUT", "/v1/session", `{"user":"root","workdir":"/tmp","open_files":100}`); text != "" {
		t.Fatal(text)
	}
	return client
}

func call(t *testing.T, client *http.Client, method, route, body string) string {
	t.Helper()
	request, err := http.NewRequest(method, "http://guest"+route, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func run(t *testing.T, client *http.Client, script string) string {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"argv": []string{"sh", "-c", script}})
	return call(t, client, "POST", "/v1/processes?follow=1", string(body))
}

func TestInitSurvivesEverySignalFromInside(t *testing.T) {
	client := startInit(t)
	run(t, client, "n=1; while [ $n -le 64 ]; do kill -$n 1; n=$((n+1)); done")
	health := call(t, client, "GET", "/v1/health", "")
	if !strings.Contains(health, `"pid":1,`) || !strings.Contains(health, `"nonce":"n"`) {
		t.Errorf("%s", health)
	}
}

func TestInitReapsOrphansAndLeaksNoDescriptor(t *testing.T) {
	client := startInit(t)
	orphans := run(t, client, "for i in 1 2 3 4 5 6 7 8; do (true &); done; echo done")
	if !strings.Contains(orphans, "done") {
		t.Errorf("%q", orphans)
	}
	seen := run(t, client, `for i in 1 2 3 4 5 6 7 8 9; do grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null || break; done; exec ls -m /proc/self/fd`)
	if strings.Contains(seen, "/proc/9/") || !strings.Contains(seen, "0, 1, 2, 3\n") { // 3 is what ls itself opened
		t.Errorf("%q", seen)
	}
	for argv, want := range map[string]string{`["no-such"]`: `"exit_code":127`, `["/etc/passwd"]`: `"exit_code":126`,
		`["sh","-c","exit 7"]`: `"exit_code":7`, `["sh","-c","kill -9 $$"]`: `"exit_code":137`, `["sh","-c","test $(ulimit -n) = 100"]`: `"exit_code":0`} {
		if answer := call(t, client, "POST", "/v1/processes?follow=1", `{"argv":`+argv+`}`); !strings.Contains(answer, want) {
			t.Errorf("%s: %q", argv, answer)
		}
	}
}
