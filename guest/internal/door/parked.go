package door

import (
	"errors"
	"net"
	"sync"
	"time"

	"cloche/guest/internal/wire"
)

var (
	errNoStream = errors.New("the door of this sandbox does not answer now")
	errFull     = error(wire.Errorf("limit_hit", "%d streams are parked here already", maxParked))
	errTooMany  = errors.New("too many connections wait for the door of this sandbox")
)

// parked are the streams that the door left here, each for one connection, and whoever waits for one.
type parked struct {
	mu      sync.Mutex
	streams []Stream
	waiting []chan Stream // the first has waited longest
	kick    chan struct{} // there are more of them than the door has been told
}

func (p *parked) init() { p.kick = make(chan struct{}, 1) }

// add parks one, or gives it to whoever waits longest.
func (p *parked) add(stream Stream) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		p.waiting[0] <- stream
		p.remove(0)
		return nil
	}
	if len(p.streams) >= maxParked {
		return errFull
	}
	p.streams = append(p.streams, stream)
	return nil
}

func (p *parked) mayAdd() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.streams) >= maxParked && len(p.waiting) == 0 {
		return errFull
	}
	return nil
}

// take waits for a stream when there is none.
func (p *parked) take(wait time.Duration) (Stream, error) {
	stream, turn, err := p.now()
	if stream != nil || err != nil {
		return stream, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case stream = <-turn:
		return stream, nil
	case <-timer.C:
		return p.giveUp(turn)
	}
}

// now is a stream that is there, or a place in the queue.
func (p *parked) now() (Stream, chan Stream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.streams); n > 0 {
		stream := p.streams[n-1]
		p.streams[n-1] = nil
		p.streams = p.streams[:n-1]
		return stream, nil, nil
	}
	if len(p.waiting) >= maxWaiting {
		return nil, nil, errTooMany
	}
	turn := make(chan Stream, 1)
	p.waiting = append(p.waiting, turn)
	p.ask()
	return nil, turn, nil
}

// ask has the control stream's writer tell the door.
func (p *parked) ask() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// giveUp leaves the queue; a stream may have come in the same moment.
func (p *parked) giveUp(turn chan Stream) (Stream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, waiting := range p.waiting {
		if waiting == turn {
			p.remove(i)
			return nil, errNoStream
		}
	}
	return <-turn, nil
}

func (p *parked) remove(i int) {
	n := copy(p.waiting[i:], p.waiting[i+1:])
	p.waiting[i+n] = nil
	p.waiting = p.waiting[:i+n]
}

// wanted is how many connections wait now.
func (p *parked) wanted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// drop closes those that are parked: the door that they lead to has gone, or is another one now.
func (p *parked) drop() {
	p.mu.Lock()
	dropped := p.streams
	p.streams = nil
	p.mu.Unlock()
	for _, stream := range dropped {
		_ = stream.Close()
	}
}

var _ Stream = (*net.TCPConn)(nil)
