// Package door is the inner end of the egress door: listeners on loopback that take what code in the sandbox sends out,
// and hand it, with the name of where it wants to go, over streams that the host parked here. Nothing is decided in here:
// user code may share the guest's id, and the host believes none of it.
package door

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxOpen    = 1024 // connections of the code at once
	maxWaiting = 256  // of those, such that wait for a stream
	maxParked  = 256
	waitStream = 5 * time.Second
	// what may take so long is spoken by the code, which may be slow or hostile, or by a door that has gone
	handshake = 10 * time.Second
)

// Stream is a connection whose two directions end one by one: one of the channel's, or of the code's.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// Config is what differs between engines. Ports nil: nothing listens, as in a guest that has no network of its own.
type Config struct {
	Ports    *Ports
	Redirect bool // every outgoing TCP connection comes to the redirect port
	DiagFD   int  // a netlink socket that knows whose a connection is, or -1
	// RefusalFD is a netlink socket that tells what the kernel refuses in here; none when not above 0
	RefusalFD int
	Trust     Trust
}

// Door is the whole inner end. It works before anybody has configured it: closed.
type Door struct {
	config    Config
	open      atomic.Bool
	parked    parked
	control   controls
	names     names
	lookups   lookups
	attempts  attempts
	slots     chan struct{} // one for each connection of the code
	owners    *owners
	original  func(*net.TCPConn) (destination, error)
	opening   sync.Once
	listeners listeners

	mu        sync.Mutex
	settings  Settings
	bundle    bool  // there is a bundle that holds the image's authorities and the door's
	untrusted error // why the authority is not there
}

// New makes it; Open lets it listen.
func New(config Config) *Door {
	d := &Door{config: config, slots: make(chan struct{}, maxOpen),
		owners: newOwners(config.DiagFD), original: originalDestination}
	d.names.init()
	d.parked.init()
	d.control.init(d)
	return d
}

// Open takes the ports, and returns when everything that can listen does: before that nothing of the code may start. What
// cannot be had is told by Listeners, and the rest works. Again does nothing.
func (d *Door) Open() {
	d.opening.Do(func() {
		if d.config.Ports != nil {
			d.listen(*d.config.Ports)
		}
		d.watchRefusals()
	})
}

// Redirect tells whether programs that know of no proxy come through, too.
func (d *Door) Redirect() bool { return d.config.Redirect }

// enter counts a connection of the code; leave has to follow when it said yes.
func (d *Door) enter() bool {
	select {
	case d.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (d *Door) leave() { <-d.slots }
