package contexts

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"

	"cloche/guest/internal/procs"
)

const (
	chunkBytes  = 64 << 10
	mergedBytes = 256 << 10
	tailBytes   = 2 << 10
	setPipeSize = 1031 // F_SETPIPE_SZ
	fionread    = 0x541b
	exitsWithin = 20 * time.Millisecond
	gatherAfter = 16 // pieces
	gatherFor   = 500 * time.Microsecond
)

var chunks = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// listener is told what an interpreter says, in order and by one goroutine at a time.
type listener interface {
	output(stream int, data string)
	frame(kind byte, payload []byte)
	ended(l *link, end procs.HiddenEnd)
}

// link is one interpreter that runs: its process and the four pipes to it.
type link struct {
	process *procs.Hidden
	to      listener
	in      *os.File
	control *os.File
	plain   [2]*os.File
	ready   chan string // its version, once
	over    chan struct{}
	gone    *procs.HiddenEnd // the listener's

	mu     sync.Mutex // whoever holds it is telling
	parser parser
	merged []byte
	stream int
	cut    [2][]byte // beginnings of characters whose rest has not come
	tail   []byte    // what it said before it was ready
	begun  bool
	small  bool // what was read last was output, and not much
	last   time.Time
	streak int
	broken bool // it closed its end, or said what is no frame
}

// open starts an interpreter of this language.
func open(manager *procs.Manager, spec procs.HiddenSpec, language *language, to listener) (*link, error) {
	l := &link{to: to, ready: make(chan string, 1), over: make(chan struct{})}
	pipes, err := l.pipes()
	defer func() { closeAll(pipes) }()
	if err == nil {
		_, err = l.in.Write([]byte(language.first()))
	}
	if language.onStdin && err == nil {
		pipes[0], pipes[3] = pipes[3], pipes[0]
	}
	spec.Files = pipes
	if err == nil {
		l.process, err = manager.StartHidden(spec, func(end procs.HiddenEnd) { l.end(end) })
	}
	if err != nil {
		l.closeFiles()
		return nil, err
	}
	go l.listen()
	go l.pump(0)
	go l.pump(1)
	return l, nil
}

// pipes makes the child's descriptors 0 to 4 and keeps the other ends.
func (l *link) pipes() (child []int, err error) {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	child = []int{null}
	for i, own := range []**os.File{&l.plain[0], &l.plain[1], &l.in, &l.control} {
		var ends [2]int
		if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
			return child, err
		}
		ours, theirs := ends[0], ends[1]
		if i == 2 {
			ours, theirs = ends[1], ends[0]
		}
		_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(ours), setPipeSize, 256<<10)
		_ = syscall.SetNonblock(ours, true)
		*own, child = os.NewFile(uintptr(ours), "interpreter"), append(child, theirs)
	}
	return child, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}

func (l *link) closeFiles() {
	for _, file := range []*os.File{l.in, l.control, l.plain[0], l.plain[1]} {
		if file != nil {
			_ = file.Close()
		}
	}
}

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
	case frameStdout, frameStderr:
		l.merge(map[byte]int{frameStdout: 0, frameStderr: 1}[kind], payload)
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

// write gives the interpreter what its pipe takes now, and tells how much that was.
func (l *link) write(data []byte) (n int) {
	raw, err := l.in.SyscallConn()
	if err != nil {
		return len(data)
	}
	_ = raw.Control(func(fd uintptr) {
		if n, err = syscall.Write(int(fd), data); err == syscall.EAGAIN {
			n, err = 0, nil
		}
	})
	if err != nil {
		return len(data)
	}
	return n
}

// send writes everything; what does not fit now is written as the interpreter reads.
func (l *link) send(data []byte) {
	if rest := data[l.write(data):]; len(rest) > 0 {
		go func() { _, _ = l.in.Write(rest) }()
	}
}

// end is for an interpreter that was reaped: its last words, then its end. Its children may still hold the pipes.
func (l *link) end(end procs.HiddenEnd) {
	l.mu.Lock()
	raw, err := l.control.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			for rounds := 0; rounds < 1024 && l.hear(int(fd)) > 0; rounds++ {
			}
		})
	}
	l.drain()
	l.settle()
	l.mu.Unlock()
	l.closeFiles()
	l.to.ended(l, end)
	close(l.over)
}

// lastWords is what an interpreter printed that never became ready.
func (l *link) lastWords() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail)
}

// stop kills the session and waits for its end.
func (l *link) stop() {
	l.process.Kill()
	select {
	case <-l.over:
	case <-time.After(5 * time.Second):
	}
}
