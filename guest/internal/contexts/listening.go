package contexts

import (
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"
)

// The reading half of a link: frames and plain output become one order.

// pump tells what is written to a plain descriptor when no frame comes that would tell it first.
func (l *link) pump(stream int) {
	raw, err := l.plain[stream].SyscallConn()
	for more := true; err == nil && more; {
		err = raw.Read(func(fd uintptr) bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			n := l.take(int(fd), stream, chunkBytes)
			l.flush()
			more = n != 0
			return n >= 0
		})
	}
}

// take reads a plain descriptor once: -1 when there is nothing now, 0 at its end.
func (l *link) take(fd, stream, most int) int {
	buf := chunks.Get().(*[chunkBytes]byte)
	defer chunks.Put(buf)
	n, err := read(fd, buf[:min(most, chunkBytes)])
	if err == syscall.EAGAIN {
		return -1
	}
	if err != nil || n <= 0 {
		return 0
	}
	l.merge(stream, buf[:n])
	return n
}

func read(fd int, buf []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, buf)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// drain tells what is in the plain pipes at this moment.
func (l *link) drain() {
	for stream, file := range l.plain {
		raw, err := file.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) {
			var waiting int32
			_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, fd, fionread, uintptr(unsafe.Pointer(&waiting)))
			for left := int(waiting); errno == 0 && left > 0; {
				n := l.take(int(fd), stream, left)
				if n <= 0 {
					return
				}
				left -= n
			}
		})
	}
}

// merge joins neighbouring pieces of one stream into one event.
func (l *link) merge(stream int, data []byte) {
	if len(l.merged) > 0 && (stream != l.stream || len(l.merged) >= mergedBytes) {
		l.flush()
	}
	if len(l.merged) == 0 {
		l.merged = append(l.merged, l.cut[stream]...)
		l.cut[stream] = nil
	}
	l.stream, l.merged = stream, append(l.merged, data...)
}

func (l *link) flush() {
	if len(l.merged) == 0 {
		return
	}
	whole := len(l.merged) - unfinished(l.merged)
	l.cut[l.stream] = append([]byte(nil), l.merged[whole:]...)
	l.tell(l.stream, l.merged[:whole])
	if l.merged = l.merged[:0]; cap(l.merged) > chunkBytes {
		l.merged = nil
	}
}

// settle tells also the beginnings of characters: nothing that belongs to them will come.
func (l *link) settle() {
	l.flush()
	for stream := range l.cut {
		l.tell(stream, l.cut[stream])
		l.cut[stream] = nil
	}
}

func (l *link) tell(stream int, data []byte) {
	switch {
	case len(data) == 0:
	case l.begun:
		l.to.output(stream, string(data))
	default:
		l.tail = append(l.tail, data...)
		l.tail = l.tail[max(0, len(l.tail)-tailBytes):]
	}
}

// unfinished is how many bytes at the end begin a character that is not complete.
func unfinished(data []byte) int {
	for n := 1; n <= min(3, len(data)); n++ {
		if c := data[len(data)-n]; c >= 0xc0 {
			if utf8.FullRune(data[len(data)-n:]) {
				return 0
			}
			return n
		} else if c < 0x80 {
			return 0
		}
	}
	return 0
}

// listen reads frames until the interpreter closes its end or says what is none; then it is ended.
func (l *link) listen() {
	raw, err := l.control.SyscallConn()
	for more := true; err == nil && more; {
		err = raw.Read(func(fd uintptr) bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			n := l.hear(int(fd))
			more = n != 0
			return n >= 0
		})
		l.gather()
	}
	if err == nil {
		l.lost()
	}
}

// lost ends an interpreter that can no longer be spoken to. One that is exiting by itself closes its end first.
func (l *link) lost() {
	select {
	case <-l.over:
		return
	case <-time.After(exitsWithin):
	}
	l.mu.Lock()
	l.broken = true
	l.mu.Unlock()
	l.process.Kill()
}

// gather lets small pieces of output pile up while they come one upon the other, so that many become one event.
func (l *link) gather() {
	now := time.Now()
	l.mu.Lock()
	if l.small && now.Sub(l.last) < gatherFor {
		l.streak++
	} else {
		l.streak = 0
	}
	l.last = now
	many := l.streak > gatherAfter
	l.mu.Unlock()
	if many {
		time.Sleep(gatherFor)
		l.last = time.Now() // only this goroutine reads it
	}
}

func (l *link) hear(fd int) int {
	buf := chunks.Get().(*[chunkBytes]byte)
	defer chunks.Put(buf)
	n, err := read(fd, buf[:])
	if err == syscall.EAGAIN {
		return -1
	}
	l.small = n < chunkBytes
	if err != nil || n <= 0 || l.parser.feed(buf[:n], l.heard) != nil {
		return 0
	}
	l.flush()
	return n
}

func (l *link) heard(kind byte, payload []byte) {
	l.drain()
	switch kind {
	case frameStdout:
		l.merge(0, payload)
	case frameStderr:
		l.merge(1, payload)
	case frameSync:
		l.flush()
		l.write(frame(frameAgain, nil))
	case frameReady:
		l.welcome(payload)
	default:
		l.small = false
		l.settle()
		l.to.frame(kind, payload)
	}
}

func (l *link) welcome(payload []byte) {
	l.settle()
	if !l.begun {
		l.begun, l.tail = true, nil
		l.ready <- clip(payload, 64)
	}
}
