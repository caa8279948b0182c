package files

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func archive(f *testing.F, headers ...tar.Header) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, header := range headers {
		if err := w.WriteHeader(&header); err != nil {
			f.Fatal(err)
		}
	}
	_ = w.Close()
	return out.Bytes()
}

// FuzzArchivesStayInside: whatever an archive holds, nothing beside its tree changes.
func FuzzArchivesStayInside(f *testing.F) {
	link := tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}
	f.Add(archive(f, link, tar.Header{Name: "l/made", Typeflag: tar.TypeReg}))
	f.Add(archive(f, link, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l/kept"}, tar.Header{Name: "h", Typeflag: tar.TypeReg}))
	f.Add(archive(f, tar.Header{Name: "../outside/made", Typeflag: tar.TypeReg}))
	f.Add(archive(f, tar.Header{Name: "a/../../outside/made", Typeflag: tar.TypeDir}))
	f.Add(archive(f, link, tar.Header{Name: "l", Typeflag: tar.TypeDir, Mode: 0o777}, tar.Header{Name: "l/x", Typeflag: tar.TypeReg}))
	f.Fuzz(func(t *testing.T, body []byte) {
		dir := t.TempDir()
		outside := filepath.Join(dir, "outside")
		if err := os.Mkdir(outside, 0o700); err != nil {
			t.Fatal(err)
		}
		kept := filepath.Join(outside, "kept")
		if err := os.WriteFile(kept, []byte("k"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = ReadTar(filepath.Join(dir, "inside"), bytes.NewReader(body))
		beside, _ := os.ReadDir(dir)
		within, _ := os.ReadDir(outside)
		info, err := os.Stat(kept)
		if len(beside) > 2 || len(within) != 1 || err != nil || info.Size() != 1 || info.Mode() != 0o600 {
			t.Fatalf("%v %v %v", beside, within, err)
		}
	})
}
