package box

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A request must survive the signals that Go's runtime sends to its own threads.
func TestAReadWithATimeLimitSurvivesSignals(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(pair[0])
	limit := syscall.NsecToTimeval((10 * time.Second).Nanoseconds())
	if err := syscall.SetsockoptTimeval(pair[0], syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	thread, got := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		thread <- syscall.Gettid()
		_, err := unbroken(func() (int, error) { return syscall.Read(pair[0], make([]byte, 1)) })
		got <- err
	}()
	tid := <-thread
	for i := 0; i < 200; i++ {
		if err := tgkill(os.Getpid(), tid, syscall.SIGURG); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
		select {
		case err := <-got:
			t.Fatalf("the read ended without a byte: %v", err)
		case <-time.After(100 * time.Microsecond):
		}
	}
	if _, err := syscall.Write(pair[1], []byte{'x'}); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	_ = syscall.Close(pair[1])
}

func tgkill(pid, tid int, sig syscall.Signal) error {
	_, _, e := syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(tid), uintptr(sig))
	return asError(e)
}
