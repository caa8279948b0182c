package contexts

import (
	"bytes"
	"sync"
	"sync/atomic"
)

const (
	ringBytes  = 32 << 20
	leastBytes = 1 << 20
	entryBytes = 64            // of memory beside its line
	ringsBytes = 2 * ringBytes // of all that run, and of those that ended with what these leave
)

// rings is what the executions that run share: each has a whole ring while there are few.
type rings struct{ running atomic.Int64 }

// each is how much one of them may keep.
func (r *rings) each() uint64 {
	return uint64(min(ringBytes, max(leastBytes, ringsBytes/max(1, r.running.Load()))))
}

// entry is one event: a line of JSON, and where it begins in all bytes of the log.
type entry struct {
	line []byte
	at   uint64
}

// eventLog keeps the newest events of one execution. Writers wait while the slowest reader is a whole ring behind.
type eventLog struct {
	mu      sync.Mutex
	space   sync.Cond
	entries []entry
	first   int // seq of entries[0]
	end     uint64
	readers map[*Reader]struct{}
	over    bool
	hurried bool
	shared  *rings
}

func newLog(shared *rings) *eventLog {
	l := &eventLog{shared: shared, first: 1, readers: map[*Reader]struct{}{}}
	l.space.L = &l.mu
	return l
}

// append numbers one event and keeps it; make returns its line for a number. What a hurried log has no room for is
// dropped unless it must be told.
func (l *eventLog) append(must bool, make func(seq int) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !must && !l.over && !l.hurried && l.behind() > l.shared.each() {
		l.space.Wait()
	}
	if l.over || l.hurried && !must && l.behind() > l.shared.each() {
		return
	}
	line := bytes.Clone(make(l.first + len(l.entries))) // as large as it is, not as it was thought to become
	l.entries = append(l.entries, entry{line, l.end})
	l.end += uint64(len(line) + entryBytes)
	l.evict(l.shared.each())
	l.wake()
}

// behind is how many bytes the slowest reader has not had; 0 without readers.
func (l *eventLog) behind() (most uint64) {
	for r := range l.readers {
		if at := r.next - l.first; at >= 0 && at < len(l.entries) {
			most = max(most, l.end-l.entries[at].at)
		}
	}
	return most
}

// evict forgets the oldest events beyond the bound, but none that a reader waits for and never the last.
func (l *eventLog) evict(bound uint64) {
	keep := len(l.entries) - 1
	for r := range l.readers {
		keep = min(keep, max(0, r.next-l.first))
	}
	n := 0
	for n < keep && l.end-l.entries[n].at > bound {
		l.entries[n].line = nil
		n++
	}
	l.entries, l.first = l.entries[n:], l.first+n
}

// hurry ends all waiting: the interpreter is about to be killed.
func (l *eventLog) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurried = true
	l.space.Broadcast()
}

// finish says that no event will come.
func (l *eventLog) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.space.Broadcast()
	l.wake()
}

func (l *eventLog) held() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 {
		return 0
	}
	return l.end - l.entries[0].at
}

// drop forgets all but the last event.
func (l *eventLog) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.evict(0)
}

// unread tells that nobody follows.
func (l *eventLog) unread() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.readers) == 0
}

func (l *eventLog) wake() {
	for r := range l.readers {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// Reader follows the events of one execution. Only one goroutine may use it.
type Reader struct {
	log    *eventLog
	next   int
	follow bool
	wake   chan struct{}
	closed func()
}

func (l *eventLog) open(after int, follow bool, closed func()) *Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Reader{log: l, next: min(after, l.first+len(l.entries)-1) + 1, follow: follow, wake: make(chan struct{}, 1), closed: closed}
	if follow {
		l.readers[r] = struct{}{}
	}
	return r
}

// Wake receives when there may be something new.
func (r *Reader) Wake() <-chan struct{} { return r.wake }

const batchBytes = 1 << 20

// Next appends the lines that come next to dst; over tells that there will be none after them.
func (r *Reader) Next(dst []byte) (out []byte, over bool) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.next < l.first {
		dst = appendGap(dst, l.first-1, l.first-r.next)
		r.next = l.first
	}
	last := l.first + len(l.entries)
	for r.next < last && len(dst) < batchBytes {
		dst = append(dst, l.entries[r.next-l.first].line...)
		r.next++
	}
	l.space.Broadcast()
	return dst, r.next >= last && (l.over || !r.follow)
}

// Close detaches it.
func (r *Reader) Close() {
	r.log.mu.Lock()
	_, attached := r.log.readers[r]
	delete(r.log.readers, r)
	alone := attached && len(r.log.readers) == 0
	r.log.space.Broadcast()
	r.log.mu.Unlock()
	if alone {
		r.closed()
	}
}
