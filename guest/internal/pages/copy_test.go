package pages

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const (
	mebibyte = 1 << 20
	ramSize  = 8 * mebibyte
	childEnv = "CLOCHE_TEST_MONITOR"
)

// TestMonitor is not a test: it is the process whose memory the tests copy. Its standard input says what to do.
func TestMonitor(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("only as a child of the other tests")
	}
	var memory []byte
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var word string
		var first, count, value int
		_, _ = fmt.Sscan(lines.Text(), &word, &first, &count, &value)
		switch word {
		case "map":
			memory, _ = syscall.Mmap(3, 0, ramSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
		case "split":
			_ = syscall.Mprotect(memory[first*pageSize:(first+count)*pageSize], syscall.PROT_READ|syscall.PROT_WRITE|syscall.PROT_EXEC)
		case "fill":
			for i := first * pageSize; i < (first+count)*pageSize; i++ {
				memory[i] = byte(value * (i + 1))
			}
		}
		fmt.Printf("done %x\n", sha256.Sum256(memory))
	}
	os.Exit(0)
}

type monitor struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.Writer
	out  *bufio.Scanner
	hash string
}

func newMonitor(t *testing.T, base *os.File) *monitor {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMonitor$")
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), childEnv+"=1"), []*os.File{base}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &monitor{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
}

func (m *monitor) do(format string, args ...any) {
	m.t.Helper()
	if _, err := fmt.Fprintf(m.in, format+"\n", args...); err != nil || !m.out.Scan() {
		m.t.Fatal("the monitor has ended: ", err)
	}
	m.hash = strings.TrimPrefix(m.out.Text(), "done ")
}

func (m *monitor) pid() int { return m.cmd.Process.Pid }

// file of a size, a hole but for some pages.
func file(t *testing.T, size int64, dataPages ...int) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "file")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, page := range dataPages {
		if _, err := f.WriteAt(bytes.Repeat([]byte{7}, pageSize), int64(page)*pageSize); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func isHole(t *testing.T, f *os.File, page int) bool {
	t.Helper()
	h := hole{fd: int(f.Fd())}
	return h.holds(int64(page) * pageSize)
}

func TestWhatIsSavedIsLoadedIntoAnother(t *testing.T) {
	base, saved := file(t, ramSize, 1, 2, 500), file(t, ramSize)
	parent, child := newMonitor(t, base), newMonitor(t, base)
	parent.do("map")
	child.do("map")
	for _, step := range []string{"fill 0 1 3", "fill 2 1 5", "fill 100 700 9", "fill 2047 1 1"} {
		parent.do("%s", step)
	}
	counts, err := Save(parent.pid(), int(base.Fd()), int(saved.Fd()))
	if err != nil || counts.Pages != 703 {
		t.Fatal(counts, err)
	}
	loaded, err := Load(child.pid(), int(base.Fd()), int(saved.Fd()))
	if err != nil || loaded.Pages != counts.Pages {
		t.Fatal(loaded, err)
	}
	child.do("look")
	if child.hash != parent.hash {
		t.Fatal("the child's memory is another")
	}
	if !isHole(t, saved, 1) || isHole(t, saved, 2) {
		t.Fatal("what the process has not written was saved, or the other way round")
	}
}

func TestZerosStayHolesOnlyWhereTheBaseHasOne(t *testing.T) {
	base, saved := file(t, ramSize, 10, 12), file(t, ramSize)
	m, other := newMonitor(t, base), newMonitor(t, base)
	m.do("map")
	other.do("map")
	m.do("fill 9 5 0")
	m.do("fill 14 1 1")
	if counts, err := Save(m.pid(), int(base.Fd()), int(saved.Fd())); err != nil || counts.Pages != 3 {
		t.Fatal(counts, err)
	}
	for page, want := range map[int]bool{9: true, 10: false, 11: true, 12: false, 13: true, 14: false} {
		if isHole(t, saved, page) != want {
			t.Errorf("page %d: a hole is %v", page, !want)
		}
	}
	if _, err := Load(other.pid(), int(base.Fd()), int(saved.Fd())); err != nil {
		t.Fatal(err)
	}
	other.do("look")
	if other.hash != m.hash {
		t.Fatal("zeros were lost")
	}
}

// Copies and archives make holes of zeros and zeros of holes.
func TestTheHolesOfTheFileDoNotMatter(t *testing.T) {
	base, saved := file(t, ramSize, 10, 11, 12), file(t, ramSize)
	m := newMonitor(t, base)
	m.do("map")
	m.do("fill 10 1 0")
	m.do("fill 14 1 1")
	if _, err := Save(m.pid(), int(base.Fd()), int(saved.Fd())); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(saved.Name())
	if err != nil {
		t.Fatal(err)
	}
	for name, keepZeros := range map[string]bool{"no holes": true, "all zeros are holes": false} {
		copied := file(t, int64(len(content)))
		for at := 0; at < len(content); at += pageSize {
			piece := content[at:min(at+pageSize, len(content))]
			if keepZeros || !bytes.Equal(piece, zeros[:len(piece)]) {
				if _, err := copied.WriteAt(piece, int64(at)); err != nil {
					t.Fatal(err)
				}
			}
		}
		other := newMonitor(t, base)
		other.do("map")
		if counts, err := Load(other.pid(), int(base.Fd()), int(copied.Fd())); err != nil || counts.Pages != 2 {
			t.Fatal(name, counts, err)
		}
		other.do("look")
		if other.hash != m.hash {
			t.Error(name, ": another memory")
		}
	}
}

func TestAMappingInPiecesIsOne(t *testing.T) {
	base, saved := file(t, ramSize), file(t, ramSize)
	m, other := newMonitor(t, base), newMonitor(t, base)
	m.do("map")
	m.do("fill 0 2048 3")
	m.do("split 50 100")
	other.do("map")
	other.do("split 300 1")
	if counts, err := Save(m.pid(), int(base.Fd()), int(saved.Fd())); err != nil || counts.Pages != 2048 {
		t.Fatal(counts, err)
	}
	if _, err := Load(other.pid(), int(base.Fd()), int(saved.Fd())); err != nil {
		t.Fatal(err)
	}
	other.do("look")
	if other.hash != m.hash {
		t.Fatal("another memory")
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	base, saved := file(t, ramSize), file(t, ramSize)
	m := newMonitor(t, base)
	m.do("look")
	if _, err := Save(m.pid(), int(base.Fd()), int(saved.Fd())); err == nil || !strings.Contains(err.Error(), "no private mapping") {
		t.Error("no mapping: ", err)
	}
	m.do("map")
	if _, err := Save(m.pid(), int(base.Fd()), int(file(t, ramSize-pageSize).Fd())); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Error("another size: ", err)
	}
	if _, err := Load(m.pid(), int(file(t, ramSize).Fd()), int(saved.Fd())); err == nil {
		t.Error("another base was taken")
	}
	if err := base.Truncate(ramSize + pageSize); err != nil {
		t.Fatal(err)
	}
	if _, err := Save(m.pid(), int(base.Fd()), int(file(t, ramSize+pageSize).Fd())); err == nil {
		t.Error("a base that has grown was taken")
	}
}

func TestAProcessThatHasEndedIsRefused(t *testing.T) {
	base := file(t, ramSize)
	m := newMonitor(t, base)
	m.do("map")
	p, err := openProcess(m.pid())
	if err != nil || p.alive() != nil {
		t.Fatal(err)
	}
	defer syscall.Close(p.dir)
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	if p.alive() == nil {
		t.Error("it is taken for alive")
	}
	if _, err := p.open("mem", syscall.O_RDWR); err == nil {
		t.Error("the directory stands for another process")
	}
	if _, err := Load(m.pid(), int(base.Fd()), int(file(t, ramSize+mapBytes(ramSize)).Fd())); err == nil {
		t.Error("a process that is gone was found")
	}
}

func TestLinesOfMaps(t *testing.T) {
	good := "7f0000000000-7f0000002000 rw-p 00001000 fe:00 1234                       /a file"
	e, ok := parseMapping(good, 1234)
	if !ok || e != (extent{offset: 0x1000, length: 0x2000, address: 0x7f0000000000}) {
		t.Error(e, ok)
	}
	for _, bad := range []string{"", "x", strings.Replace(good, "rw-p", "rw-s", 1), strings.Replace(good, "1234", "12345", 1),
		strings.Replace(good, "-7f", "+7f", 1), strings.Replace(good, "0000002000", "0000000000", 1),
		strings.Replace(good, "00001000", "-x", 1)} {
		if _, ok := parseMapping(bad, 1234); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestOnlyTheWholeFileIsTaken(t *testing.T) {
	page := func(offset, length int64) extent {
		return extent{offset: offset, length: length, address: 1<<30 + offset}
	}
	if found, err := joined([]extent{page(8192, 4096), page(0, 8192)}, 12288); err != nil || len(found) != 1 {
		t.Error(found, err)
	}
	apart := []extent{page(0, 8192), {offset: 8192, length: 4096, address: 1 << 20}}
	if found, err := joined(apart, 12288); err != nil || len(found) != 2 {
		t.Error(found, err)
	}
	for _, bad := range [][]extent{nil, {page(0, 8192)}, {page(4096, 8192)}, {page(0, 8192), page(4096, 8192)},
		{page(0, 12288), page(0, 12288)}} {
		if _, err := joined(bad, 12288); err == nil {
			t.Error(bad)
		}
	}
}
