package mux

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A FIFO behaves as the port does: without a writer, a read says at once that nobody is there.
func TestADeviceWaitsForItsHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	port := waiting(file)
	p := make([]byte, 10)
	for range 3 {
		if n, err := port.Read(p); n != 0 || err != io.EOF {
			t.Fatal(n, err)
		}
		if n, err := port.(readWaiter).ReadWaiting(p, time.Millisecond); n != 0 || err != io.EOF {
			t.Fatal(n, err)
		}
		come := make(chan string, 1)
		go func() {
			n, _ := port.(readWaiter).ReadWaiting(p, patience)
			come <- string(p[:n])
		}()
		host, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = host.WriteString("hello")
		if got := <-come; got != "hello" {
			t.Fatal(got)
		}
		if n, err := port.(readWaiter).ReadWaiting(p, time.Millisecond); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(n, err)
		}
		_ = host.Close()
	}
}

func TestOnlyADeviceWaits(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if _, ok := waiting(one).(readWaiter); ok {
		t.Fatal("a pipe in memory")
	}
	plain, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, ok := waiting(plain).(readWaiter); ok {
		t.Fatal("a plain file")
	}
}
