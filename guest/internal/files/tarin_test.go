package files

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func archiveOf(t *testing.T, name, content string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestHalfAnArchiveLeavesNoHalfFile(t *testing.T) {
	dir := t.TempDir()
	place := filepath.Join(dir, "f")
	if err := os.WriteFile(place, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	whole := archiveOf(t, "f", string(make([]byte, 4096)))
	if _, err := ReadTar(dir, bytes.NewReader(whole[:1500])); err == nil {
		t.Fatal("half an archive was taken for a whole one")
	}
	if content, _ := os.ReadFile(place); string(content) != "before" {
		t.Fatalf("the file is %q", content)
	}
	if names := namesIn(t, dir); len(names) != 1 {
		t.Fatalf("left behind: %q", names)
	}
}

func TestAnEntryTakesThePlaceOfAnEmptyDirectoryOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "full", "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTar(dir, bytes.NewReader(archiveOf(t, "empty", "x"))); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTar(dir, bytes.NewReader(archiveOf(t, "full", "x"))); err == nil {
		t.Fatal("a directory with something in it was replaced")
	}
	if names := namesIn(t, dir); len(names) != 2 {
		t.Fatalf("left behind: %q", names)
	}
}
