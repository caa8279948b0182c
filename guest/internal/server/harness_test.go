package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloche/guest/internal/door"
	"cloche/guest/internal/procs"
	"cloche/guest/internal/reaper"
	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

const testRing = 64 << 10

var theReaper = reaper.New() // one for the whole test process: it waits for every child

// guest is a server on a unix socket and a client of it.
type guest struct {
	t       *testing.T
	socket  string
	client  *http.Client
	manager *procs.Manager
	dir     string
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	return newGuestOf(t, func(*Config) {})
}

func newGuestOf(t *testing.T, change func(*Config)) *guest {
	t.Helper()
	dir := t.TempDir()
	passwd := "me:x:" + strconv.Itoa(os.Getuid()) + ":" + strconv.Itoa(os.Getgid()) + "::" + dir + ":/bin/sh\n" +
		"other:x:4321:4321::/:/bin/sh\n"
	book := users.NewBook(os.Getuid() != 0)
	book.PasswdPath, book.GroupPath = filepath.Join(dir, ".passwd"), filepath.Join(dir, ".group")
	if err := os.WriteFile(book.PasswdPath, []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	manager := procs.NewManager(procs.Config{Book: book, Reaper: theReaper, MemoryFD: -1, RingBytes: testRing})
	if err := manager.SetSession(procs.Session{User: "me", Workdir: wire.Text(dir)}); err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, socket: filepath.Join(dir, ".s"), manager: manager, dir: dir}
	listener, err := net.Listen("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Manager: manager, Reaper: theReaper, Version: "test", SandboxID: "sb_x", Nonce: "n",
		Started: time.Now(), Exit: func(int) {}, Door: door.New(door.Config{DiagFD: -1})}
	change(&config)
	config.Door.Open()
	api := New(config)
	go func() { _ = api.Serve(listener) }()
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", g.socket) }
	g.client = &http.Client{Transport: &http.Transport{DialContext: dial}}
	t.Cleanup(func() {
		for _, p := range manager.All() {
			_ = manager.Delete(p.ID())
		}
		_ = api.Close()
	})
	return g
}

func (g *guest) open(method, target string, body any) *http.Response {
	g.t.Helper()
	var reader io.Reader
	switch given := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(given)
	case io.Reader:
		reader = given
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			g.t.Fatal(err)
		}
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, "http://guest"+target, reader)
	if err != nil {
		g.t.Fatal(err)
	}
	response, err := g.client.Do(request)
	if err != nil {
		g.t.Fatal(err)
	}
	return response
}

// call returns the body of an answer that must have this status.
func (g *guest) call(status int, method, target string, body any) []byte {
	g.t.Helper()
	response := g.open(method, target, body)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if response.StatusCode != status {
		g.t.Fatalf("%s %s: %d, not %d: %s", method, target, response.StatusCode, status, data)
	}
	return data
}

// code returns the error code of an answer.
func (g *guest) code(method, target string, body any) string {
	g.t.Helper()
	response := g.open(method, target, body)
	defer response.Body.Close()
	var answer struct {
		Error struct {
			Code    string
			Details map[string]any
		}
	}
	_ = json.NewDecoder(response.Body).Decode(&answer)
	return answer.Error.Code
}

func path(route, file string) string { return route + "path=" + url.QueryEscape(file) }

func decodeInfo(t *testing.T, data []byte) (info wire.ProcessInfo) {
	t.Helper()
	if err := json.Unmarshal(data, &info); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return info
}

type frame struct {
	kind    byte
	offset  uint64
	payload []byte
}

func readFrame(r io.Reader) (frame, error) {
	var header [16]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: header[0], offset: binary.BigEndian.Uint64(header[8:])}
	f.payload = make([]byte, binary.BigEndian.Uint32(header[4:8]))
	_, err := io.ReadFull(r, f.payload)
	return f, err
}

// result is what a whole stream said.
type result struct {
	started, exited *wire.ProcessInfo
	out             [2][]byte
	lost            [2]uint64
	next            [2]uint64
}

// take adds one frame and checks that offsets follow on each other.
func (r *result) take(t *testing.T, f frame) {
	t.Helper()
	switch f.kind {
	case wire.FrameStarted:
		info := decodeInfo(t, f.payload)
		r.started = &info
	case wire.FrameExited:
		info := decodeInfo(t, f.payload)
		r.exited = &info
	case wire.FrameStdout, wire.FrameStderr:
		i := f.kind - wire.FrameStdout
		if f.offset != r.next[i] {
			t.Fatalf("stream %d goes on at %d, not %d", i, f.offset, r.next[i])
		}
		r.next[i] += uint64(len(f.payload))
		r.out[i] = append(r.out[i], f.payload...)
	case wire.FrameGap:
		i, lost := f.payload[0]-2, binary.BigEndian.Uint64(f.payload[1:])
		r.lost[i] += lost
		r.next[i] = f.offset
	}
}

func collectFrames(t *testing.T, body io.Reader) (r result) {
	t.Helper()
	for {
		f, err := readFrame(body)
		if err == io.EOF {
			return r
		}
		if err != nil {
			t.Fatal(err)
		}
		r.take(t, f)
	}
}

// run starts a process and follows it to its end.
func (g *guest) run(spec map[string]any) result {
	g.t.Helper()
	response := g.open("POST", "/v1/processes?follow=1", spec)
	defer response.Body.Close()
	if response.StatusCode != 200 {
		data, _ := io.ReadAll(response.Body)
		g.t.Fatalf("%d %s", response.StatusCode, data)
	}
	r := collectFrames(g.t, response.Body)
	if r.started == nil || r.exited == nil {
		g.t.Fatal("no STARTED or no EXITED")
	}
	return r
}

func shell(script string) map[string]any { return map[string]any{"argv": []string{"sh", "-c", script}} }

func with(spec map[string]any, key string, value any) map[string]any {
	spec[key] = value
	return spec
}

func (g *guest) start(spec map[string]any) wire.ProcessInfo {
	g.t.Helper()
	return decodeInfo(g.t, g.call(201, "POST", "/v1/processes", spec))
}

func (g *guest) wait(id string) wire.ProcessInfo {
	g.t.Helper()
	return decodeInfo(g.t, g.call(200, "GET", "/v1/processes/"+id+"/wait?timeout_seconds=20", nil))
}
