package server

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestTarThereAndBack(t *testing.T) {
	g := newGuest(t)
	g.run(shell(`mkdir -p src/empty src/ro; echo hi > src/a; ln -s ../../etc src/link; printf x > "src/new
line"; printf y > "$(printf 'src/caf\351')"; chmod 751 src/a; mkfifo src/fifo; printf z > src/ro/f; chmod 555 src/ro`))
	archive := g.call(200, "GET", path("/v1/files/tar?", "src"), nil)
	var done struct{ Files, Bytes int64 }
	decodeJSON(t, g.call(200, "PUT", path("/v1/files/tar?", "to/there"), bytes.NewReader(archive)), &done)
	if done.Files != 8 || done.Bytes != 6 {
		t.Errorf("%+v", done)
	}
	r := g.run(shell("diff -r --no-dereference -x fifo src to/there/src && stat -c %a to/there/src/a to/there/src/ro; readlink to/there/src/link"))
	if string(r.out[0]) != "751\n555\n../../etc\n" {
		t.Errorf("%s%s", r.out[0], r.out[1])
	}
	if code := g.code("GET", path("/v1/files/tar?", "nowhere"), nil); code != "not_found" {
		t.Error(code)
	}
}

func archiveOf(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, header := range headers {
		if header.Typeflag == tar.TypeReg {
			header.Size = 4
		}
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			_, _ = w.Write([]byte("evil"))
		}
	}
	_ = w.Close()
	return &out
}

func TestTarCannotLeaveItsTree(t *testing.T) {
	g := newGuest(t)
	outside := t.TempDir()
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o4755} }
	hard := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
	}
	bad := [][]tar.Header{
		{file("../x")}, {file("/tmp/x")}, {file("a/../../x")}, {link("l", outside), file("l/x")}, {link("l", ".."), file("l/x")},
		{link("l", outside), {Name: "l/d/", Typeflag: tar.TypeDir, Mode: 0o755}}, {link("a", "b"), link("b", outside), file("a/x")},
		{hard("h", "../../x")}, {hard("h", "/etc/passwd")}, {link("l", outside), hard("h", "l/secret")},
		{{Name: "dev", Typeflag: tar.TypeChar}}, {{Name: "dev", Typeflag: tar.TypeBlock}}, {file("f"), file("f/x")},
	}
	if err := os.WriteFile(outside+"/secret", []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, headers := range bad {
		target := path("/v1/files/tar?", fmt.Sprintf("t%d/in", i))
		if code := g.code("PUT", target, archiveOf(t, headers...)); code != "invalid" {
			t.Errorf("%d: %q", i, code)
		}
	}
	if left, _ := filepath.Glob(outside + "/*"); len(left) != 1 {
		t.Errorf("written outside: %v", left)
	}
	if _, err := os.Stat(g.dir + "/x"); err == nil {
		t.Error("written beside the tree")
	}
	good := archiveOf(t, link("l", "real"), tar.Header{Name: "real/", Typeflag: tar.TypeDir, Mode: 0o755}, file("l/x"), hard("h", "real/x"))
	g.call(200, "PUT", path("/v1/files/tar?", "good"), good)
	if info := g.info(200, "GET", path("/v1/files/stat?", "good/real/x"), nil); info.Mode != 0o755 {
		t.Errorf("setuid was kept: %o", info.Mode)
	}
	if code := g.code("PUT", path("/v1/files/tar?", "good"), "this is no archive, though it is longer than a header"); code != "invalid" {
		t.Error(code)
	}
}
