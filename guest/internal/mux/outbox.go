package mux

const (
	// maxPending is what may wait for the port before writers do.
	maxPending = 64 << 10
	// maxUntaken is for a host that asks and does not take the answers.
	maxUntaken = 1 << 20
	outboxSize = maxPending + headerBytes + maxPayload + tagBytes
)

// outbox gathers frames while the port is busy. Writers that find no room wait in the order of their arrival.
type outbox struct {
	pending, spare []byte
	waiting        []*Conn
}

func newOutbox() outbox {
	return outbox{pending: make([]byte, 0, outboxSize), spare: make([]byte, 0, outboxSize)}
}

func (l *Listener) control(k kind, stream, value uint32) {
	l.out.pending = appendFrame(l.out.pending, k, stream, value, l.in.tag)
	l.flushable.Signal()
}

func (l *Listener) payload(stream uint32, p []byte) {
	out := appendFrame(l.out.pending, data, stream, uint32(len(p)), l.in.tag)
	out = append(out, p...)
	l.out.pending = append(out, l.in.epoch[:tagBytes]...)
	l.flushable.Signal()
}

func (l *Listener) hasRoom() bool { return len(l.out.pending) < maxPending }

// wakeWriter gives the next one that waits for room its turn.
func (l *Listener) wakeWriter() {
	if len(l.out.waiting) == 0 || !l.hasRoom() {
		return
	}
	next := l.out.waiting[0]
	n := copy(l.out.waiting, l.out.waiting[1:])
	l.out.waiting[n] = nil
	l.out.waiting = l.out.waiting[:n]
	next.hasTurn = true
	next.writable.Broadcast()
}

func (o *outbox) leave(c *Conn) {
	for i, waiting := range o.waiting {
		if waiting == c {
			o.waiting = append(o.waiting[:i], o.waiting[i+1:]...)
			return
		}
	}
}

// flush is the goroutine that writes. Nobody else does, so nobody but it ever waits for a host that is not there.
func (l *Listener) flush() {
	pause := shortest
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed {
		if len(l.out.pending) == 0 {
			l.flushable.Wait()
			continue
		}
		batch := l.out.pending
		l.out.pending = l.out.spare[:0]
		l.wakeWriter()
		l.mu.Unlock()
		if n, err := l.port.Write(batch); err != nil || n < len(batch) {
			pause = backOff(pause)
		} else {
			pause = shortest
		}
		l.mu.Lock()
		l.out.spare = batch[:0]
	}
}
