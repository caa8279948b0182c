package box

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func open(t *testing.T, dir string) int {
	t.Helper()
	fd, err := syscall.Open(dir, openDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return fd
}

// roundTrip saves a tree and fills a fresh directory with it.
func roundTrip(t *testing.T, tree string) (string, int) {
	t.Helper()
	var saved bytes.Buffer
	if err := saveTree(open(t, filepath.Dir(tree)), filepath.Base(tree), &saved); err != nil {
		t.Fatal("save: ", err)
	}
	size := saved.Len()
	to := t.TempDir()
	if err := restoreTree(to, t.TempDir(), bufio.NewReader(&saved)); err != nil {
		t.Fatal("restore: ", err)
	}
	return to, size
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTreesComeBack(t *testing.T) {
	tree := t.TempDir()
	must(t, os.MkdirAll(tree+"/a/b", 0o755))
	must(t, os.WriteFile(tree+"/a/b/file", []byte("content"), 0o644))
	must(t, os.Chmod(tree+"/a/b/file", 0o4751|os.ModeSetuid))
	must(t, os.Link(tree+"/a/b/file", tree+"/z"))
	must(t, os.Symlink("/etc/shadow", tree+"/link"))
	must(t, os.Link(tree+"/link", tree+"/link2"))
	must(t, syscall.Mkfifo(tree+"/fifo", 0o600))
	must(t, os.WriteFile(tree+"/caf\xe9\n", nil, 0o600))
	must(t, os.Chmod(tree+"/a", 0o1700|os.ModeSticky))
	must(t, os.Chtimes(tree+"/a", modified, modified))
	to, _ := roundTrip(t, tree)
	var one, other, dir syscall.Stat_t
	must(t, syscall.Lstat(to+"/a/b/file", &one))
	must(t, syscall.Lstat(to+"/z", &other))
	must(t, syscall.Lstat(to+"/a", &dir))
	if one.Ino != other.Ino || one.Nlink != 2 || one.Mode&0o7777 != 0o4751 {
		t.Errorf("hard link: %+v %+v", one, other)
	}
	if dir.Mode&0o7777 != 0o1700 || dir.Mtim.Sec != modified.Unix() {
		t.Errorf("directory: %+v", dir)
	}
	if target, err := os.Readlink(to + "/link2"); target != "/etc/shadow" {
		t.Errorf("link: %q %v", target, err)
	}
	if _, err := os.Lstat(to + "/caf\xe9\n"); err != nil {
		t.Error(err)
	}
}

func TestHolesStayHoles(t *testing.T) {
	tree := t.TempDir()
	file, err := os.Create(tree + "/sparse")
	must(t, err)
	must(t, file.Truncate(1<<40))
	for at := int64(0); at < 3000; at++ {
		_, err := file.WriteAt([]byte{'x'}, at*16384)
		must(t, err)
	}
	must(t, file.Close())
	to, size := roundTrip(t, tree)
	if size > 3000*4600 {
		t.Errorf("%d bytes were saved", size)
	}
	found, err := os.Stat(to + "/sparse")
	must(t, err)
	if found.Size() != 1<<40 || found.Sys().(*syscall.Stat_t).Blocks > 3000*16 {
		t.Errorf("%d bytes, %d blocks", found.Size(), found.Sys().(*syscall.Stat_t).Blocks)
	}
}

func TestDeepTreesNeedNoPathsAndFewDescriptors(t *testing.T) {
	tree, depth := t.TempDir(), 3000
	fd := open(t, tree)
	for i := 0; i < depth; i++ {
		must(t, syscall.Mkdirat(fd, "directory", 0o755))
		next, err := syscall.Openat(fd, "directory", openDir, 0)
		must(t, err)
		if i > 0 {
			_ = syscall.Close(fd)
		}
		fd = next
	}
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: before.Max}))
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) }()
	_, size := roundTrip(t, tree)
	if size > depth*200 {
		t.Errorf("%d bytes for %d directories", size, depth)
	}
}

func TestHostileRecordsLeadNowhere(t *testing.T) {
	outside := t.TempDir()
	file := record{Kind: kindFile, Name: []byte("x"), Size: 4}
	cases := map[string][]record{
		"dots":            {{Kind: kindDir, Name: []byte("..")}},
		"slash":           {{Kind: kindDir, Name: []byte("a/b")}},
		"absolute":        {{Kind: kindFile, Name: []byte(outside + "/made")}},
		"nothing":         {{Kind: kindFile}},
		"nul":             {{Kind: kindDir, Name: []byte("a\x00b")}},
		"up too far":      {{Kind: kindUp}},
		"up after a link": {{Kind: kindLink, Name: []byte("l"), Target: []byte(outside)}, {Kind: kindDir, Name: []byte("l")}},
		"file over a link": {{Kind: kindLink, Name: []byte("l"), Target: []byte(outside + "/made")},
			{Kind: kindFile, Name: []byte("l")}},
		"unknown link":  {{Kind: kindHard, Name: []byte("h"), Link: 7}},
		"unknown kind":  {{Kind: "device", Name: []byte("d")}},
		"stray data":    {{Kind: kindData, Length: 1}},
		"data beyond":   {file, {Kind: kindData, Offset: 2, Length: 3}},
		"negative data": {file, {Kind: kindData, Offset: -1, Length: 3}},
		"overflow":      {file, {Kind: kindData, Offset: 1 << 62, Length: 1 << 62}},
		"open at end":   {{Kind: kindDir, Name: []byte("d"), Mode: 0o755}, {Kind: kindEnd}},
		"no end":        {},
	}
	for name, records := range cases {
		var saved bytes.Buffer
		for i := range records {
			must(t, writeRecord(&saved, &records[i]))
		}
		if err := restoreTree(t.TempDir(), t.TempDir(), bufio.NewReader(&saved)); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
	if names, _ := os.ReadDir(outside); len(names) != 0 {
		t.Errorf("made outside: %v", names)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	if _, err := readRecord(bufio.NewReader(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff}))); err == nil {
		t.Error("a record of 4 GiB was accepted")
	}
	large := record{Kind: kindLink, Target: make([]byte, 2*maxHeader)}
	if err := writeRecord(&bytes.Buffer{}, &large); err == nil {
		t.Error("a record beyond the bound was written")
	}
}
