package server

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func decodeJSON(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}

func accepted(t *testing.T, data []byte) int64 {
	t.Helper()
	var answer struct{ Offset int64 }
	decodeJSON(t, data, &answer)
	return answer.Offset
}

func TestStdinOffsetsMakeRetriesSafe(t *testing.T) {
	g := newGuest(t)
	info := g.start(with(shell("cat"), "stdin", true))
	one := "/v1/processes/" + info.ID
	if n := accepted(t, g.call(200, "POST", one+"/stdin?offset=0", "hello ")); n != 6 {
		t.Error(n)
	}
	if n := accepted(t, g.call(200, "POST", one+"/stdin?offset=0", "hello ")); n != 6 {
		t.Error("a retry doubled")
	}
	if n := accepted(t, g.call(200, "POST", one+"/stdin?offset=3", "lo wor")); n != 9 {
		t.Error(n)
	}
	if n := accepted(t, g.call(200, "POST", one+"/stdin", "ld")); n != 11 {
		t.Error(n)
	}
	if code := g.code("POST", one+"/stdin?offset=99", "x"); code != "invalid" {
		t.Error(code)
	}
	g.call(204, "POST", one+"/stdin/close", nil)
	if code := g.code("POST", one+"/stdin", "x"); code != "wrong_state" {
		t.Error(code)
	}
	end := g.wait(info.ID)
	response := g.open("GET", one+"/output", nil)
	defer response.Body.Close()
	if r := collectFrames(t, response.Body); string(r.out[0]) != "hello world" || *end.ExitCode != 0 {
		t.Errorf("%q", r.out[0])
	}
}

func TestStdinOfWhatTakesNone(t *testing.T) {
	g := newGuest(t)
	info := g.start(shell("sleep 60"))
	if code := g.code("POST", "/v1/processes/"+info.ID+"/stdin", "x"); code != "wrong_state" {
		t.Error(code)
	}
	never := g.start(map[string]any{"argv": []string{"no-such-command"}, "stdin": true})
	for _, route := range []string{"/stdin", "/stdin/close"} {
		if code := g.code("POST", "/v1/processes/"+never.ID+route, "x"); code != "wrong_state" {
			t.Error(code)
		}
	}
	if r := g.run(shell("cat")); *r.exited.ExitCode != 0 {
		t.Error("stdin that was not asked for must be at its end")
	}
}

func TestABlockedWriterGivesWayToItsRetry(t *testing.T) {
	g := newGuest(t)
	info := g.start(with(shell("read line; echo ready; cat | wc -c"), "stdin", true))
	one := "/v1/processes/" + info.ID
	big := strings.Repeat("x", 1<<20)
	// The first request blocks, since nobody reads yet, and its client goes silent in the middle of the body.
	conn, err := net.Dial("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := "POST " + one + "/stdin?offset=0 HTTP/1.1\r\nHost: g\r\nContent-Length: 2000000\r\n\r\n\n"
	if _, err := io.WriteString(conn, head+big[:1000]); err != nil {
		t.Fatal(err)
	}
	follower := g.open("GET", one+"/output?follow=1", nil)
	defer follower.Body.Close()
	(&textReader{t: t, body: follower.Body}).until("ready") // so the first one has the turn
	if n := accepted(t, g.call(200, "POST", one+"/stdin?offset=0", "\n"+big)); n != 1<<20+1 {
		t.Error(n)
	}
	g.call(204, "POST", one+"/stdin/close", nil)
	g.wait(info.ID)
	response := g.open("GET", one+"/output", nil)
	defer response.Body.Close()
	if r := collectFrames(t, response.Body); strings.TrimSpace(strings.TrimPrefix(string(r.out[0]), "ready\n")) != "1048576" {
		t.Errorf("%q", r.out[0])
	}
}

func TestTerminal(t *testing.T) {
	g := newGuest(t)
	spec := with(shell("tty >/dev/null && stty size; read a; stty size; echo got $a; cat"), "pty", map[string]int{"rows": 33, "cols": 77})
	response := g.open("POST", "/v1/processes?follow=1", spec)
	defer response.Body.Close()
	first, err := readFrame(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	one := "/v1/processes/" + decodeInfo(t, first.payload).ID
	reader := &textReader{t: t, body: response.Body}
	reader.until("33 77")
	g.call(204, "POST", one+"/resize", `{"rows":44,"cols":99}`)
	g.call(200, "POST", one+"/stdin", "hi\n")
	reader.until("got hi\r\n") // all of it: what follows is counted from the beginning
	if !strings.Contains(reader.text, "44 99") {
		t.Errorf("%q", reader.text)
	}
	g.call(204, "POST", one+"/stdin/close", nil)
	if rest := collectFrames(t, response.Body); *rest.exited.ExitCode != 0 {
		t.Error("the end-of-file character did not end cat")
	}
	if code := g.code("POST", one+"/resize", `{"rows":1,"cols":1}`); code != "wrong_state" {
		t.Error(code)
	}
}

type textReader struct {
	t    *testing.T
	body io.Reader
	text string
}

func (r *textReader) until(wanted string) {
	r.t.Helper()
	for !strings.Contains(r.text, wanted) {
		f, err := readFrame(r.body)
		if err != nil {
			r.t.Fatalf("%q: %v", r.text, err)
		}
		r.text += string(f.payload)
	}
}

func TestDialCarriesBothWaysWithHalfClose(t *testing.T) {
	g := newGuest(t)
	inside, err := net.Listen("unix", g.dir+"/inner")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	go func() {
		conn, err := inside.Accept()
		if err != nil {
			return
		}
		all, _ := io.ReadAll(conn) // ends only by the client's half-close
		_, _ = io.WriteString(conn, "echo:"+string(all))
		conn.Close()
	}()
	conn, err := net.Dial("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The first bytes come with the request, before the answer.
	request := "POST /v1/dial?unix=" + g.dir + "/inner HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: cloche-stream\r\n\r\nearly "
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != 101 {
		t.Fatal(response, err)
	}
	_, _ = io.WriteString(conn, "late")
	_ = conn.(*net.UnixConn).CloseWrite()
	if all, err := io.ReadAll(reader); err != nil || string(all) != "echo:early late" {
		t.Errorf("%q %v", all, err)
	}
}

func TestDialIsOfWhatIsInHere(t *testing.T) {
	g := newGuest(t)
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	port := strconv.Itoa(inside.Addr().(*net.TCPAddr).Port)
	for host, wanted := range map[string]int{
		"": 101, "127.0.0.1": 101, "127.1.2.3": 404, "::ffff:127.0.0.1": 101, "0.0.0.0": 101,
		"192.0.2.7": 422, "2001:db8::1": 422, "::ffff:192.0.2.7": 422, "db.example": 422, "localhost": 422, "127.1": 422,
	} {
		request, _ := http.NewRequest("POST", "http://g/v1/dial?port="+port+"&host="+host, nil)
		request.Header.Set("Connection", "Upgrade")
		request.Header.Set("Upgrade", "cloche-stream")
		response, err := g.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != wanted {
			t.Errorf("%q: %d", host, response.StatusCode)
		}
	}
}

func TestDialOfNothing(t *testing.T) {
	g := newGuest(t)
	if code := g.code("POST", "/v1/dial?port=1", nil); code != "invalid" {
		t.Error("without an upgrade:", code)
	}
	request, _ := http.NewRequest("POST", "http://g/v1/dial?unix="+g.dir+"/nothing", nil)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "cloche-stream")
	response, err := g.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 404 {
		t.Error(response.StatusCode)
	}
}
