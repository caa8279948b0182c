package procs

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	drainGrace = 200 * time.Millisecond
	chunkBytes = 256 << 10
	lastBytes  = 1 << 20 // a bound for what a terminal may still hold at the end
)

// Buffers are borrowed only while bytes move: an idle process costs none.
var chunks = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// pump carries one stream of a process into its log.
type pump struct {
	file    *os.File
	stream  int
	drained chan struct{}
	away    atomic.Bool // nobody held the terminal's other side when it was last read
}

func newPump(file *os.File, stream int) *pump {
	return &pump{file: file, stream: stream, drained: make(chan struct{})}
}

// run ends when every writer has closed the stream. Once the process has ended and `drain` has run out of patience,
// it says that what the process wrote is complete and throws away what others still write.
func (u *pump) run(p *Process) {
	defer u.file.Close()
	once := sync.OnceFunc(func() { close(u.drained) })
	defer once()
	raw, err := u.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		more := true
		err := raw.Read(func(fd uintptr) bool {
			n := u.move(int(fd), p, chunkBytes)
			more = n != atEnd
			return n != nothingNow
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = raw.Control(func(fd uintptr) { u.moveRest(int(fd), p) })
			once()
			_ = u.file.SetReadDeadline(time.Time{})
			<-p.Log.Done()
			continue
		}
		if err != nil || !more {
			return
		}
	}
}

const (
	nothingNow = -1
	atEnd      = 0
)

// move reads once, without blocking on the descriptor, and returns how much, nothingNow or atEnd.
func (u *pump) move(fd int, p *Process, limit int) int {
	buf := chunks.Get().(*[chunkBytes]byte)
	defer chunks.Put(buf)
	for {
		n, err := syscall.Read(fd, buf[:min(limit, chunkBytes)])
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			return nothingNow
		}
		if err != nil || n <= 0 {
			return u.left(p)
		}
		u.away.Store(false)
		p.emit(u.stream, buf[:n])
		return n
	}
}

// left: what nobody holds is at its end, except for a terminal (which then says EIO) while its session leader lives:
// a program that closes its three descriptors just before it exits would die of the SIGHUP that closing sends, and it
// may still open /dev/tty.
func (u *pump) left(p *Process) int {
	u.away.Store(true)
	if p.spec.Pty == nil || p.over.Load() {
		return atEnd
	}
	return nothingNow
}

// moveRest takes what is in the pipe at this moment: all that the dead process wrote, and not what its children may
// go on writing for ever.
func (u *pump) moveRest(fd int, p *Process) {
	left := lastBytes
	if p.spec.Pty == nil {
		var waiting int32
		if ioctl(fd, syscall.TIOCINQ, unsafe.Pointer(&waiting)) != nil {
			return
		}
		left = int(waiting)
	}
	for left > 0 {
		n := u.move(fd, p, left)
		if n <= 0 {
			return
		}
		left -= n
	}
}

// drain waits until both streams are complete: closed, or the process's last bytes read after the grace.
func (s *stdio) drain(grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for _, u := range s.pumps {
		if u.away.Load() {
			_ = u.file.SetReadDeadline(time.Now())
		}
	}
	for _, u := range s.pumps {
		select {
		case <-u.drained:
		case <-timer.C:
			for _, late := range s.pumps {
				_ = late.file.SetReadDeadline(time.Now())
			}
			<-u.drained
		}
	}
}

// emit adds to the log and kills the process when it has written more than it may.
func (p *Process) emit(stream int, data []byte) {
	total := p.written.Add(int64(len(data)))
	if limit := p.spec.OutputLimitBytes; limit != nil && total > *limit {
		data = data[:max(0, int64(len(data))-(total-*limit))]
		p.hit("output", syscall.SIGKILL)
	}
	p.Log.Write(stream, data)
}
