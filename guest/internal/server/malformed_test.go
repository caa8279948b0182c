package server

import (
	"net/http"
	"strings"
	"testing"
)

// TestMalformedRequestsAreRefused: nothing that a client sends may end as a failure of the guest itself.
func TestMalformedRequestsAreRefused(t *testing.T) {
	g := newGuest(t)
	info := g.start(shell("exit 0"))
	g.wait(info.ID)
	bodies := []string{"", "null", "[]", "{}", "1", `"x"`, "{", `{"x":1}`, `{"argv":null}`, `{"argv":[null]}`, `{"argv":["a"],"pty":{"rows":-1}}`,
		`{"signal":null}`, `{"signal":{}}`, `{"signal":1e9}`, `{"rows":null}`, `{"path":null}`, `{"path":"","mode":null}`,
		`{"path":"/x","mode":-1}`, `{"from":"a"}`, `{"time":null}`, `{"grace_seconds":-1}`, `{"grace_seconds":null,"x":0}`,
		`{"env":null,"session_env":{"":""}}`, `{"user":null}`, strings.Repeat("[", 20000)}
	queries := []string{"", "?", "?x=1", "?path=", "?path=%00", "?path=%ff&user=%ff", "?follow=2", "?stdout_offset=9223372036854775808",
		"?offset=-1", "?port=0", "?port=65536", "?unix=&port=", "?timeout_seconds=nan", "?timeout_seconds=-1", "?%zz", "?depth=0"}
	routes := []string{"POST /v1/processes", "POST /v1/processes/" + info.ID + "/signal", "POST /v1/processes/" + info.ID + "/resize",
		"POST /v1/processes/" + info.ID + "/stdin", "POST /v1/processes/" + info.ID + "/stdin/close", "GET /v1/processes/" + info.ID + "/output",
		"GET /v1/processes/x/wait", "DELETE /v1/processes/x", "POST /v1/dial", "PUT /v1/clock", "POST /v1/entropy", "GET /v1/files/stat",
		"GET /v1/files/list", "GET /v1/files/tar", "GET /v1/files/content", "POST /v1/files/mkdir", "POST /v1/files/move",
		"POST /v1/files/chmod", "POST /v1/files/chown", "POST /v1/files/symlink", "PUT /v1/session", "PATCH /v1/nothing"}
	for _, route := range routes {
		method, place, _ := strings.Cut(route, " ")
		for _, query := range queries {
			for _, body := range bodies {
				request, err := http.NewRequest(method, "http://guest"+place+query, strings.NewReader(body))
				if err != nil {
					continue
				}
				response, err := g.client.Do(request)
				if err != nil {
					t.Fatalf("%s%s %.40s: %v", route, query, body, err)
				}
				response.Body.Close()
				if response.StatusCode == http.StatusInternalServerError {
					t.Errorf("%s%s %.40s: %d", route, query, body, response.StatusCode)
				}
			}
		}
	}
}
