package contexts

import (
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"time"

	"cloche/guest/internal/procs"
)

const (
	chunkBytes  = 64 << 10
	mergedBytes = 256 << 10
	tailBytes   = 2 << 10
	setPipeSize = 1031 // F_SETPIPE_SZ
	pipeBytes   = 256 << 10
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
	stops   *os.File // nil where signals do
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
	pipes, err := l.pipes(language.stopper)
	defer func() { closeAll(pipes) }()
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
	l.send([]byte(language.first()))
	go l.listen()
	go l.pump(0)
	go l.pump(1)
	return l, nil
}

// pipes makes the child's descriptors 0 to 4, or 5, and keeps the other ends.
func (l *link) pipes(stopper bool) (child []int, err error) {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	child = []int{null}
	own := []**os.File{&l.plain[0], &l.plain[1], &l.in, &l.control}
	if stopper {
		own = append(own, &l.stops)
	}
	for _, end := range own {
		theirs, err := pipe(end, end == &l.in || end == &l.stops)
		if err != nil {
			return child, err
		}
		child = append(child, theirs)
	}
	return child, nil
}

// pipe keeps one end in own, which never waits, and returns the other.
func pipe(own **os.File, writes bool) (theirs int, err error) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return -1, err
	}
	ours, theirs := ends[0], ends[1]
	if writes {
		ours, theirs = theirs, ours
	}
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(ours), setPipeSize, pipeBytes)
	_ = syscall.SetNonblock(ours, true)
	*own = os.NewFile(uintptr(ours), "interpreter")
	return theirs, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}

func (l *link) closeFiles() {
	for _, file := range []*os.File{l.in, l.control, l.stops, l.plain[0], l.plain[1]} {
		if file != nil {
			_ = file.Close()
		}
	}
}

// write gives the interpreter what its pipe takes now, and tells how much that was.
func (l *link) write(data []byte) (n int) {
	return writeNow(l.in, data)
}

func writeNow(file *os.File, data []byte) (n int) {
	raw, err := file.SyscallConn()
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

// interrupt asks for the end of the execution of this number.
func (l *link) interrupt(number int) {
	if l.stops != nil {
		writeNow(l.stops, binary.BigEndian.AppendUint32(nil, uint32(number)))
	}
	l.process.Interrupt()
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
	l.parser.forget()
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
