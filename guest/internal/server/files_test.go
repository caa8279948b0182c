package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"cloche/guest/internal/wire"
)

const content = "/v1/files/content?"

func (g *guest) info(status int, method, target string, body any) (info wire.FileInfo) {
	g.t.Helper()
	decodeJSON(g.t, g.call(status, method, target, body), &info)
	return info
}

func TestWriteAndReadWithRanges(t *testing.T) {
	g := newGuest(t)
	info := g.info(200, "PUT", path(content, "deep/er/a b\n\xff.txt"), "0123456789")
	if info.Path != wire.Text(g.dir)+"/deep/er/a b\n\xff.txt" || info.Size != 10 || info.Mode != 0o644 || info.Type != "file" {
		t.Errorf("%+v", info)
	}
	name := path(content, "~/deep/er/a b\n\xff.txt")
	for query, want := range map[string]string{"": "0123456789", "&offset=3": "3456789", "&offset=3&length=4": "3456",
		"&length=0": "", "&offset=10": "", "&offset=99": ""} {
		response := g.open("GET", name+query, nil)
		data, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if string(data) != want || response.ContentLength != int64(len(want)) || response.Header.Get("Cloche-File-Size") != "10" {
			t.Errorf("%s: %q, length %d", query, data, response.ContentLength)
		}
	}
	g.call(200, "PUT", name+"&append=1", "AB")
	g.call(200, "PUT", name+"&offset=2", "xy")
	if got := g.call(200, "GET", name, nil); string(got) != "01xy456789AB" {
		t.Errorf("%q", got)
	}
}

func TestLargeFileAndProcFile(t *testing.T) {
	g := newGuest(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	g.call(200, "PUT", path(content, "big"), bytes.NewReader(big))
	if got := g.call(200, "GET", path(content, "big"), nil); !bytes.Equal(got, big) {
		t.Error("the large file came back different")
	}
	if got := g.call(200, "GET", path(content, "/proc/self/status"), nil); !bytes.Contains(got, []byte("Pid:")) {
		t.Errorf("%q", got)
	}
}

func TestAtomicWriteKeepsModeAndLeavesNothingOnFailure(t *testing.T) {
	g := newGuest(t)
	g.call(200, "PUT", path(content, "f")+"&mode=0751", "old")
	if info := g.info(200, "PUT", path(content, "f"), "new"); info.Mode != 0o751 {
		t.Errorf("%o", info.Mode)
	}
	broken := io.MultiReader(strings.NewReader("half"), errorReader{})
	request, _ := http.NewRequest("PUT", "http://g"+path(content, "f"), broken)
	if _, err := g.client.Do(request); err == nil {
		t.Fatal("the broken body was sent")
	}
	g.call(200, "PUT", path(content, "f2"), "x") // a request later, so that the broken one has been noticed or not begun
	if got := g.call(200, "GET", path(content, "f"), nil); string(got) != "new" {
		t.Errorf("%q", got)
	}
	if err := os.Symlink("f", g.dir+"/l"); err != nil {
		t.Fatal(err)
	}
	g.call(200, "PUT", path(content, "l"), "through")
	if info := g.info(200, "GET", path("/v1/files/stat?", "l"), nil); info.Type != "symlink" || *info.Target != "f" {
		t.Errorf("the link was replaced: %+v", info)
	}
	if got := g.call(200, "GET", path(content, "f"), nil); string(got) != "through" {
		t.Errorf("%q", got)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("broken on purpose") }

func TestWhatIsNoFileIsInvalid(t *testing.T) {
	g := newGuest(t)
	g.run(shell("mkfifo pipe; mkdir dir"))
	for _, name := range []string{"pipe", "dir", "/dev/null", "pipe/x"} {
		for _, method := range []string{"GET", "PUT"} {
			if code := g.code(method, path(content, name), "x"); code != "invalid" {
				t.Errorf("%s %s: %q", method, name, code)
			}
		}
	}
	cases := map[string]string{path(content, "missing"): "not_found", content + "path=": "invalid", content + "path=a%00b": "invalid",
		path(content, "x") + "&user=nobody-here": "invalid", path(content, "x") + "&offset=-1": "invalid",
		path(content, "x") + "&wrong=1": "invalid", path(content, strings.Repeat("x", 300)): "invalid"}
	for target, want := range cases {
		if code := g.code("GET", target, nil); code != want {
			t.Errorf("%s: %q, not %q", target, code, want)
		}
	}
}

func TestFullDiskIsNoSpace(t *testing.T) {
	if got := wire.FromErr(&os.PathError{Err: errNoSpace}); got.Code != "no_space" || got.Status() != 507 {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this machine has no /dev/full")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if got := wire.FromErr(receive(full, strings.NewReader("x"))); got.Code != "no_space" {
		t.Errorf("%+v", got)
	}
}

func TestTenThousandFilesAndLevels(t *testing.T) {
	g := newGuest(t)
	many := g.dir + "/many"
	if err := os.MkdirAll(many+"/sub/below", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 10_000; i++ {
		if err := os.WriteFile(fmt.Sprintf("%s/f%05d\nx", many, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lines := bytes.Split(bytes.TrimSpace(g.call(200, "GET", path("/v1/files/list?", "many"), nil)), []byte("\n"))
	if len(lines) != 10_001 {
		t.Fatal(len(lines))
	}
	var first wire.FileInfo
	decodeJSON(t, lines[0], &first)
	if first.Name != "f00000\nx" || first.Mode != 0o600 {
		t.Errorf("%+v", first)
	}
	deeper := bytes.Count(g.call(200, "GET", path("/v1/files/list?", "many")+"&depth=2", nil), []byte("\n"))
	if deeper != 10_002 {
		t.Error(deeper)
	}
	if code := g.code("GET", path("/v1/files/list?", "nowhere"), nil); code != "not_found" {
		t.Error(code)
	}
}

func TestChanges(t *testing.T) {
	g := newGuest(t)
	post := func(status int, route, body string) wire.FileInfo {
		t.Helper()
		return g.info(status, "POST", "/v1/files/"+route, body)
	}
	if info := post(200, "mkdir", `{"path":"a/b/c","parents":true,"mode":448}`); info.Mode != 0o700 || info.Type != "directory" {
		t.Errorf("%+v", info)
	}
	post(200, "mkdir", `{"path":"a/b/c","parents":true}`)
	g.call(200, "PUT", path(content, "a/f"), "x")
	g.call(200, "PUT", path(content, "a/g"), "y")
	post(200, "symlink", `{"path":"a/l","target":"/etc/caf\udce9"}`)
	post(200, "chmod", `{"path":"a","mode":493,"recursive":true}`)
	if info := g.info(200, "GET", path("/v1/files/stat?", "a/f"), nil); info.Mode != 0o755 {
		t.Errorf("%o", info.Mode)
	}
	post(200, "move", `{"from":"a/f","to":"a/g","overwrite":true}`)
	post(200, "move", `{"from":"a/g","to":"h"}`)
	codes := map[string]string{
		`mkdir {"path":"a"}`: "already_exists", `mkdir {"path":"x/y"}`: "not_found", `mkdir {"path":"a","bad":1}`: "invalid",
		`move {"from":"h","to":"a"}`: "already_exists", `move {"from":"nope","to":"z"}`: "not_found",
		`chmod {"path":"a"}`: "invalid", `chmod {"path":"a","mode":99999}`: "invalid", `symlink {"path":"a","target":"b"}`: "already_exists",
	}
	for request, want := range codes {
		route, body, _ := strings.Cut(request, " ")
		if code := g.code("POST", "/v1/files/"+route, body); code != want {
			t.Errorf("%s: %q, not %q", request, code, want)
		}
	}
	remove := path("/v1/files?", "a")
	if code := g.code("DELETE", remove, nil); code != "wrong_state" {
		t.Error(code)
	}
	g.call(204, "DELETE", remove+"&recursive=1", nil)
	if code := g.code("DELETE", remove+"&recursive=1", nil); code != "not_found" {
		t.Error(code)
	}
	if code := g.code("DELETE", path("/v1/files?", "/./")+"&recursive=1", nil); code != "invalid" {
		t.Error(code)
	}
}

func TestWatchTellsNothingOfOurTemporaryNames(t *testing.T) {
	g := newGuest(t)
	response := g.open("GET", path("/v1/files/watch?", g.dir), nil)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Scan()
	g.call(200, "PUT", path("/v1/files/content?", "new"), "1")
	g.call(200, "PUT", path("/v1/files/content?", "new"), "2")
	g.run(shell("echo > .cloche-mine; echo > last"))
	var told []string
	for len(told) == 0 || !strings.HasSuffix(told[len(told)-1], "/last") {
		var event wire.WatchEvent
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &event) != nil {
			t.Fatal(lines.Err())
		}
		told = append(told, event.Event+" "+string(*event.Path))
	}
	want := []string{"write new", "write new", "create .cloche-mine", "write .cloche-mine", "create last"}
	for i := range want {
		name, file, _ := strings.Cut(want[i], " ")
		want[i] = name + " " + g.dir + "/" + file
	}
	if !slices.Equal(told, want) && !slices.Equal(told, append(want[:1:1], want[2:]...)) {
		t.Errorf("%q", told)
	}
}

func TestWatchMissesNothingInNewDirectories(t *testing.T) {
	g := newGuest(t)
	response := g.open("GET", path("/v1/files/watch?", g.dir)+"&recursive=1", nil)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	next := func() (event wire.WatchEvent) {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		return event
	}
	if event := next(); event.Event != "ready" {
		t.Fatalf("%+v", event)
	}
	g.run(shell("for d in 1 2 3; do mkdir -p w$d/x/y; for f in 1 2 3 4; do echo > w$d/x/y/f$f; done; done; chmod 600 w1/x/y/f1; " +
		"rm w1/x/y/f2; mv w1/x/y/f3 'new\nname'; echo > last"))
	seen := map[string]bool{}
	for place := ""; place != g.dir+"/last"; {
		event := next()
		place = string(*event.Path)
		seen[event.Event+" "+strings.TrimPrefix(place, g.dir+"/")] = true
	}
	for d := 1; d <= 3; d++ {
		for f := 1; f <= 4; f++ {
			if name := fmt.Sprintf("create w%d/x/y/f%d", d, f); !seen[name] && !(d == 1 && (f == 2 || f == 3)) {
				t.Errorf("missed %s", name)
			}
		}
	}
	if !seen["create new\nname"] {
		t.Errorf("%v", seen)
	}
	if code := g.code("GET", path("/v1/files/watch?", "nowhere"), nil); code != "not_found" {
		t.Error(code)
	}
}
