package pages

import (
	"os"
	"sort"
	"syscall"
	"testing"
	"unsafe"
)

const testPages = 16384

// ownMapping maps a sparse file privately into this process and writes to some of its pages.
func ownMapping(t *testing.T, written func(page int) bool) (file *os.File, memory []byte) {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "base")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := file.Truncate(testPages * pageSize); err != nil {
		t.Fatal(err)
	}
	memory, err = syscall.Mmap(int(file.Fd()), 0, testPages*pageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(memory) })
	for i := 0; i < testPages; i++ {
		if written(i) {
			memory[i*pageSize] = byte(i%255 + 1)
		}
	}
	return file, memory
}

func TestExactlyWhatWasWrittenIsFound(t *testing.T) {
	patterns := map[string]func(int) bool{
		"none": func(int) bool { return false }, "all": func(int) bool { return true },
		"every second": func(i int) bool { return i%2 == 0 }, "blocks": func(i int) bool { return i/16%3 == 1 },
		"the last": func(i int) bool { return i == testPages-1 },
	}
	for pattern, written := range patterns {
		t.Run(pattern, func(t *testing.T) {
			_, memory := ownMapping(t, written)
			mapping := extent{length: testPages * pageSize, address: int64(uintptr(unsafe.Pointer(&memory[0])))}
			self := &process{dir: openDirectory(t, "/proc/self")}
			found, err := self.private([]extent{mapping})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, found, written)
		})
	}
}

func openDirectory(t *testing.T, path string) int {
	t.Helper()
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return fd
}

func compare(t *testing.T, found []extent, written func(int) bool) {
	t.Helper()
	sort.Slice(found, func(i, j int) bool { return found[i].offset < found[j].offset })
	at := 0
	for page := 0; page < testPages; page++ {
		for at < len(found) && found[at].offset+found[at].length <= int64(page)*pageSize {
			at++
		}
		has := at < len(found) && found[at].offset <= int64(page)*pageSize
		if has != written(page) {
			t.Fatalf("page %d: found %v", page, has)
		}
	}
	total := int64(0)
	for _, e := range found {
		total += e.length / pageSize
	}
	want := int64(0)
	for page := 0; page < testPages; page++ {
		if written(page) {
			want++
		}
	}
	if total != want {
		t.Fatalf("%d pages instead of %d", total, want)
	}
}
