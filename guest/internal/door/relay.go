package door

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

const bufferBytes = 128 << 10

type buffer [bufferBytes]byte

// buffers are borrowed only while bytes move: an idle connection has none. Not splice: it holds a pipe in each direction
// for as long as nothing comes, and the kernel counts pipes against the sandbox's owner on the host.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// waiter is a stream without a descriptor that tells when it can be read.
type waiter interface{ Wait() error }

// relay carries bytes both ways between the code and the door until both directions have ended. The code's bytes do not
// wait for the answer, as the door may want to see them first; when it is no, the code sees a reset.
func relay(code *net.TCPConn, stream Stream) {
	carryBoth(code, stream, func() error {
		answer, err := readVerdict(stream)
		if err == nil && !answer.OK {
			err = errRefused
		}
		return err
	})
}

var errRefused = errors.New("the door refused")

// join is relay where the door has answered already.
func join(code *net.TCPConn, stream Stream) {
	carryBoth(code, stream, func() error { return nil })
}

func carryBoth(code *net.TCPConn, stream Stream, first func() error) {
	defer code.Close()
	defer stream.Close()
	both := broken{code, stream}
	var out sync.WaitGroup
	out.Add(1)
	go func() { defer out.Done(); both.on(carry(stream, code)) }()
	err := first()
	if err == nil {
		err = carry(code, stream)
	}
	both.on(err)
	out.Wait()
}

// broken ends both when one of them has broken: the code sees a reset, as that is what became of its connection.
type broken struct {
	code   *net.TCPConn
	stream Stream
}

func (b broken) on(err error) {
	if err != nil {
		reset(b.code)
		_ = b.stream.Close()
	}
}

// reset makes the close of a connection an error for whoever is at its other end.
func reset(code *net.TCPConn) {
	_ = code.SetLinger(0)
	_ = code.Close()
}

// carry copies until the source ends and passes that on.
func carry(to, from Stream) error {
	for {
		buf, n, err := receive(from)
		if n > 0 {
			_, err = to.Write(buf[:n])
		}
		if buf != nil {
			buffers.Put(buf)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			_ = to.CloseWrite()
			return nil
		}
	}
}

// receive waits without a buffer and returns a borrowed one with what came. 0 bytes without an error are the end.
func receive(from Stream) (buf *buffer, n int, err error) {
	if direct, ok := from.(syscall.Conn); ok {
		return receiveDirectly(direct)
	}
	if waiter, ok := from.(waiter); ok {
		if err := waiter.Wait(); err != nil {
			return nil, 0, err
		}
	}
	buf = buffers.Get().(*buffer)
	if n, err = from.Read(buf[:]); err == io.EOF {
		err = nil
	}
	return buf, n, err
}

func receiveDirectly(from syscall.Conn) (buf *buffer, n int, err error) {
	raw, err := from.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*buffer)
		n, failed = syscall.Read(int(fd), buf[:])
		for failed == syscall.EINTR {
			n, failed = syscall.Read(int(fd), buf[:])
		}
		if failed != syscall.EAGAIN {
			return true
		}
		buffers.Put(buf)
		buf = nil
		return false
	})
	if err == nil {
		err = failed
	}
	return buf, max(n, 0), err
}
