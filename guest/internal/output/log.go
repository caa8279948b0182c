package output

import "sync"

// DefaultRingBytes is what is kept of each stream when nothing else is asked.
const DefaultRingBytes = 8 << 20

// Log is the output of one process: two streams, their readers, and the moment after which nothing more comes.
type Log struct {
	mu       sync.Mutex
	space    sync.Cond
	rings    [2]ring
	readers  map[*Reader]struct{}
	finished bool
	dropped  bool
	done     chan struct{}
}

// NewLog makes an empty log that keeps ringBytes of each stream.
func NewLog(ringBytes int) *Log {
	l := &Log{readers: map[*Reader]struct{}{}, done: make(chan struct{})}
	l.space.L = &l.mu
	l.rings[0].max, l.rings[1].max = ringBytes, ringBytes
	return l
}

// Write appends p to a stream (0 stdout, 1 stderr). It blocks while the slowest attached reader is a whole ring
// behind, and drops p once the log is finished.
func (l *Log) Write(stream int, p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 && !l.finished && !l.dropped {
		n := min(len(p), l.free(stream))
		if n == 0 {
			l.space.Wait()
			continue
		}
		l.rings[stream].write(p[:n])
		p = p[n:]
		l.wake()
	}
}

// free is how much may be written before a reader would lose bytes.
func (l *Log) free(stream int) int {
	r := &l.rings[stream]
	if len(l.readers) == 0 {
		return r.max
	}
	slowest := r.end
	for reader := range l.readers {
		slowest = min(slowest, reader.offsets[stream])
	}
	return max(0, r.max-int(r.end-slowest))
}

func (l *Log) wake() {
	for reader := range l.readers {
		reader.poke()
	}
}

// Blocked tells whether a reader holds the writers up now.
func (l *Log) Blocked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free(0) == 0 || l.free(1) == 0
}

// Finish says that nothing more will be read from the process.
func (l *Log) Finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		return
	}
	l.finished = true
	close(l.done)
	l.space.Broadcast()
	l.wake()
}

// Done is closed by Finish.
func (l *Log) Done() <-chan struct{} { return l.done }

// Totals returns how many bytes each stream has had so far.
func (l *Log) Totals() (stdout, stderr uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rings[0].end, l.rings[1].end
}

// Held is the memory in use by both streams, in bytes.
func (l *Log) Held() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rings[0].held() + l.rings[1].held()
}

// Drop gives the memory back; readers that come later see a gap.
func (l *Log) Drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropped = true
	l.rings[0].drop()
	l.rings[1].drop()
	l.space.Broadcast()
	l.wake()
}
