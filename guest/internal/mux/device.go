package mux

import (
	"io"
	"os"
	"syscall"
	"time"
)

// device is a port that the kernel serves: it can wait for a host instead of asking again and again.
type device struct {
	*os.File
	raw syscall.RawConn
}

// waiting returns the port with a ReadWaiting where it has one: that of an open file for which a thread need not wait.
func waiting(port io.ReadWriter) io.ReadWriter {
	file, ok := port.(*os.File)
	if !ok || file.SetReadDeadline(time.Time{}) != nil {
		return port
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return port
	}
	return device{file, raw}
}

// readWaiter is a port whose ReadWaiting goes on waiting, but not longer than this, when there is no host.
type readWaiter interface {
	ReadWaiting(p []byte, most time.Duration) (int, error)
}

// ReadWaiting asks anew whenever something has happened to the port. It says 0, io.EOF when there is still no host, and
// os.ErrDeadlineExceeded when there is one that says nothing.
func (d device) ReadWaiting(p []byte, most time.Duration) (count int, err error) {
	_ = d.SetReadDeadline(time.Now().Add(most))
	defer d.SetReadDeadline(time.Time{})
	silent := false
	err = d.raw.Read(func(fd uintptr) bool {
		n, err := syscall.Read(int(fd), p)
		count, silent = max(n, 0), err == syscall.EAGAIN
		return count > 0 || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	})
	if count == 0 && !silent && (err == nil || os.IsTimeout(err)) {
		err = io.EOF
	}
	return count, err
}
