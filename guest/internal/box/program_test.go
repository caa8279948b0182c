package box

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAProgramThatCannotBeIsRefused(t *testing.T) {
	good := func() *Program {
		return &Program{Argv: []string{"/vmm"}, ConsoleFD: 30, Files: []ProgramFile{{Path: "/a", FD: 10}, {Path: "/b", FD: 99}},
			Listen: []ProgramSocket{{Name: "qmp.sock", FD: 20}}}
	}
	if err := good().check(); err != nil {
		t.Fatal(err)
	}
	var none *Program
	if err := none.check(); err != nil {
		t.Fatal(err)
	}
	bad := map[string]func(*Program){
		"no argv":         func(p *Program) { p.Argv = nil },
		"a relative path": func(p *Program) { p.Argv[0] = "qemu" },
		"a low number":    func(p *Program) { p.Files[0].FD = 9 },
		"a high number":   func(p *Program) { p.Files[0].FD = 100 },
		"no number":       func(p *Program) { p.Listen[0].FD = 0 },
		"standard output": func(p *Program) { p.Files[0].FD = 1 },
		"standard input":  func(p *Program) { p.ConsoleFD = 2 },
		"twice":           func(p *Program) { p.Files[1].FD = 20 },
		"the console's":   func(p *Program) { p.Listen[0].FD = 30 },
		"a path":          func(p *Program) { p.Listen[0].Name = "../qmp.sock" },
		"a zero":          func(p *Program) { p.Listen[0].Name = "q\x00.sock" },
		"another ending":  func(p *Program) { p.Listen[0].Name = "exit.json" },
		"control.sock":    func(p *Program) { p.Listen[0].Name = "control.sock" },
		"a long name":     func(p *Program) { p.Listen[0].Name = strings.Repeat("x", 80) + ".sock" },
		"the name twice":  func(p *Program) { p.Listen = append(p.Listen, ProgramSocket{Name: "qmp.sock", FD: 21}) },
	}
	for name, spoil := range bad {
		p := good()
		spoil(p)
		if p.check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	plain, link, fifo := filepath.Join(dir, "plain"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(plain, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{plain: true, link: false, fifo: false, dir: false, "/dev/null": false, dir + "/none": false} {
		file := ProgramFile{Path: path}
		fd, err := file.open()
		if (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
		if err == nil {
			_ = syscall.Close(fd)
		}
	}
	null := ProgramFile{Path: "/dev/null", Device: true}
	if _, err := null.open(); err == nil {
		t.Error("/dev/null was taken for /dev/kvm")
	}
}

const placeEnv = "CLOCHE_TEST_PLACE"

// TestStub is not a test: it is the process that places descriptors and then becomes a program, which tells what it has.
func TestStub(t *testing.T) {
	switch os.Getenv(placeEnv) {
	case "":
		t.Skip("only as a child of the other tests")
	case "program":
		tellDescriptors()
	}
	dir := os.Getenv("CLOCHE_TEST_DIR")
	p := &Program{ConsoleFD: 14, Files: []ProgramFile{{FD: 11}, {FD: 12}, {FD: 10}, {FD: 99}}}
	var given []int
	// each lies where another one belongs
	for i, at := range []int{10, 11, 12, 14} {
		fd, err := syscall.Open(fmt.Sprintf("%s/%d", dir, i), syscall.O_RDONLY|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
		if err != nil || syscall.Dup3(fd, at, syscall.O_CLOEXEC) != nil || syscall.Close(fd) != nil {
			os.Exit(3)
		}
		given = append(given, at)
	}
	if err := p.place(append(given, 3)); err != nil {
		os.Exit(4)
	}
	_ = syscall.Exec(os.Args[0], []string{"stub", "-test.run=^TestStub$"}, []string{placeEnv + "=program"})
	os.Exit(5)
}

func tellDescriptors() {
	found := map[int]string{}
	for fd := 10; fd < 200; fd++ {
		if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			found[fd] = filepath.Base(target)
		}
	}
	_ = json.NewEncoder(os.NewFile(14, "console")).Encode(found)
	os.Exit(0)
}

func TestDescriptorsArriveAtTheirNumbers(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStub$")
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), placeEnv+"=place", "CLOCHE_TEST_DIR="+dir), []*os.File{out}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	said, _ := io.ReadAll(in)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err, string(said))
	}
	var found map[int]string
	if err := json.Unmarshal(said, &found); err != nil {
		t.Fatal(string(said))
	}
	for number, name := range map[int]string{11: "0", 12: "1", 10: "2", 99: "3"} {
		if found[number] != name {
			t.Errorf("%d is %q", number, found[number])
		}
	}
	if !strings.HasPrefix(found[14], "pipe:") || len(found) != 5 {
		t.Error(found)
	}
}
