// Package server is the guest's HTTP API, version 1, as guest/README.md describes it.
package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloche/guest/internal/contexts"
	"cloche/guest/internal/door"
	"cloche/guest/internal/procs"
	"cloche/guest/internal/reaper"
	"cloche/guest/internal/wire"
)

const maxJSON = 16 << 20

// Config is what the server reports and uses.
type Config struct {
	Manager     *procs.Manager
	Reaper      *reaper.Reaper
	Version     string
	SandboxID   string
	Nonce       string
	LandlockABI int
	OwnKernel   bool // the clock and the entropy pool belong to this sandbox alone
	Started     time.Time
	Exit        func(code int)
	Door        *door.Door // nil: there is none, and the routes for it are not there
	Machine     Machine    // nil unless OwnKernel and this guest is its first program
}

type server struct {
	Config
	contexts *contexts.Manager
	identity identity
	sleep    sleep
}

// handler is a route that may refuse. What it returns is sent unless it has begun to answer.
type handler func(w http.ResponseWriter, r *http.Request) error

// New returns the server; it serves on any listener.
func New(config Config) *http.Server {
	s := &server{Config: config, contexts: contexts.NewManager(config.Manager)}
	s.identity.set(config.SandboxID, config.Nonce)
	mux := http.NewServeMux()
	for _, routes := range []map[string]handler{s.boxRoutes(), s.processRoutes(), s.fileRoutes(), s.contextRoutes(),
		s.vmRoutes(), s.egressRoutes()} {
		for pattern, route := range routes {
			mux.Handle(pattern, route)
		}
	}
	mux.Handle("/", handler(func(_ http.ResponseWriter, r *http.Request) error {
		return wire.Errorf("not_found", "no route %s %s", r.Method, r.URL.Path)
	}))
	return &http.Server{Handler: s.openingAfter(mux), ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 1 << 20}
}

// openingAfter opens the door when the host has its first answer, which is what it waits for.
func (s *server) openingAfter(mux *http.ServeMux) http.Handler {
	var first sync.Once
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r)
		first.Do(func() {
			if s.Door != nil {
				go s.Door.Open()
			}
		})
	})
}

func (s *server) boxRoutes() map[string]handler {
	return map[string]handler{
		"GET /v1/health": s.health, "PUT /v1/session": s.session, "GET /v1/stats": s.stats, "PUT /v1/clock": s.clock,
		"POST /v1/entropy": s.entropy, "POST /v1/shutdown": s.shutdown, "POST /v1/dial": s.dial,
	}
}

func (s *server) processRoutes() map[string]handler {
	return map[string]handler{
		"POST /v1/processes": s.start, "GET /v1/processes": s.processes, "GET /v1/processes/{id}": s.process,
		"GET /v1/processes/{id}/wait": s.wait, "GET /v1/processes/{id}/output": s.output,
		"POST /v1/processes/{id}/stdin": s.stdin, "POST /v1/processes/{id}/stdin/close": s.closeStdin,
		"POST /v1/processes/{id}/signal": s.signal, "POST /v1/processes/{id}/resize": s.resize,
		"DELETE /v1/processes/{id}": s.remove,
	}
}

// ServeHTTP implements http.Handler.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h(w, r)
	if err == nil {
		return
	}
	if errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	refusal := wire.FromErr(err)
	reply(w, refusal.Status(), refusal)
}

func reply(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		status, encoded = 500, []byte(`{"error":{"code":"internal","message":"the answer cannot be written"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(encoded)))
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}

func noContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// decode reads a JSON body into target and refuses fields that it does not know. An empty body is {}.
func decode(w http.ResponseWriter, r *http.Request, target any) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJSON))
	if err != nil {
		return wire.Invalid("the request body cannot be read: %v", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return explain(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return wire.Invalid("more than one JSON value in the request body")
	}
	return nil
}

func explain(err error) error {
	var known *wire.Error
	if errors.As(err, &known) {
		return known
	}
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		return wire.InvalidField(mistyped.Field, "%s cannot be a %s", mistyped.Field, mistyped.Value)
	}
	if _, name, ok := strings.Cut(err.Error(), "unknown field "); ok {
		name = strings.Trim(name, `"`)
		return wire.InvalidField(name, "unknown field %q", name)
	}
	return wire.Invalid("not JSON: %v", err)
}

// query reads typed parameters and keeps the first mistake.
type query struct {
	values map[string][]string
	err    error
}

func queryOf(r *http.Request, known ...string) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.fail("query", "the query cannot be read: %v", err)
	}
	for name := range q.values {
		if !contains(known, name) {
			q.fail(name, "unknown parameter %q", name)
		}
	}
	return q
}

func contains(list []string, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}

func (q *query) fail(name, format string, args ...any) {
	if q.err == nil {
		q.err = wire.InvalidField(name, format, args...)
	}
}

func (q *query) text(name string) string {
	if all := q.values[name]; len(all) > 0 {
		return all[0]
	}
	return ""
}

func (q *query) has(name string) bool { return q.text(name) != "" }

func (q *query) flag(name string, missing bool) bool {
	switch q.text(name) {
	case "":
		return missing
	case "1", "true":
		return true
	case "0", "false":
		return false
	}
	q.fail(name, "%s must be 0 or 1", name)
	return false
}

func (q *query) integer(name string, base int, missing int64) int64 {
	if !q.has(name) {
		return missing
	}
	n, err := strconv.ParseInt(q.text(name), base, 64)
	if err != nil {
		q.fail(name, "%s must be a number", name)
	}
	return n
}

func (q *query) seconds(name string, missing float64) time.Duration {
	n := missing
	if q.has(name) {
		var err error
		if n, err = strconv.ParseFloat(q.text(name), 64); err != nil || !(n >= 0) {
			q.fail(name, "%s must be a number of seconds", name)
		}
	}
	return time.Duration(min(n, 366*86400) * float64(time.Second))
}
