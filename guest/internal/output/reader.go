package output

// Event is one step of a reader: Lost bytes that are gone, or N bytes of data, of Stream (0 or 1). Offset is where
// the data, or what is left after the loss, begins.
type Event struct {
	Stream int
	Offset uint64
	Lost   uint64
	N      int
}

// Reader follows both streams of a log from given offsets. Only one goroutine may use it. While it is open the
// process waits for it as for the reader of a pipe.
type Reader struct {
	log     *Log
	offsets [2]uint64
	limits  [2]uint64
	bounded bool
	turn    int
	wake    chan struct{}
}

// Open attaches a reader. A negative offset counts from the end; one beyond the end waits there. A reader that does
// not follow ends at what is there now.
func (l *Log) Open(stdout, stderr int64, follow bool) *Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Reader{log: l, bounded: !follow, wake: make(chan struct{}, 1)}
	for i, wanted := range [2]int64{stdout, stderr} {
		r.limits[i] = l.rings[i].end
		r.offsets[i] = place(wanted, l.rings[i].end)
	}
	l.readers[r] = struct{}{}
	return r
}

func place(wanted int64, end uint64) uint64 {
	if wanted >= 0 {
		return min(uint64(wanted), end)
	}
	return end - min(end, uint64(-wanted))
}

// Close detaches the reader, so that it holds the process up no longer.
func (r *Reader) Close() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	delete(r.log.readers, r)
	r.log.space.Broadcast()
}

func (r *Reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Wake receives when there may be something new.
func (r *Reader) Wake() <-chan struct{} { return r.wake }

// Next copies what comes next into buf. ok is false when there is nothing now; over is true when there never will be.
func (r *Reader) Next(buf []byte) (event Event, ok, over bool) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	for range r.offsets {
		r.turn ^= 1
		if event, ok = r.step(r.turn, buf); ok {
			return event, true, false
		}
	}
	return Event{}, false, r.log.finished || r.log.dropped || r.bounded
}

func (r *Reader) step(stream int, buf []byte) (Event, bool) {
	source := &r.log.rings[stream]
	at, end := r.offsets[stream], source.end
	if r.bounded {
		end = min(end, r.limits[stream])
	}
	if at < source.start && at < end {
		r.offsets[stream] = source.start
		return Event{Stream: stream, Offset: source.start, Lost: source.start - at}, true
	}
	if at >= end {
		return Event{}, false
	}
	n := 0
	for wanted := min(len(buf), int(end-at)); n < wanted; {
		n += copy(buf[n:wanted], source.slice(at+uint64(n), wanted-n))
	}
	r.offsets[stream] = at + uint64(n)
	r.log.space.Broadcast()
	return Event{Stream: stream, Offset: at, N: n}, true
}
