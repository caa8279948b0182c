package refusals

import (
	"errors"
	"net/netip"
	"os"
	"syscall"
	"time"
)

const (
	// packets that are read before anything else is done, and the pause after them: code that sends as fast as it can
	// costs no more than that
	atOnce = 256
	pause  = 50 * time.Millisecond
	// of one packet's headers and what is said of it, with room to spare
	datagramBytes = 4096
)

// Listener hears of refusals. HostOf is the name that an address stands for, or the address. Tell is false where nobody
// has heard: then it is told again later.
type Listener interface {
	HostOf(netip.Addr) string
	Tell(Refusal) bool
}

type watch struct {
	listener Listener
	table    table
	number   uint32 // of the next packet, when none is lost
	buffer   [datagramBytes]byte
}

// Watch reads from the socket that package redirect has opened until that breaks, which it never does.
func Watch(fd int, listener Listener) {
	_ = syscall.SetNonblock(fd, true)
	file := os.NewFile(uintptr(fd), "refusals")
	defer file.Close()
	socket, err := file.SyscallConn()
	w := watch{listener: listener}
	for err == nil {
		next, _ := w.table.next() // the zero time is no deadline
		_ = file.SetReadDeadline(next)
		if err = w.read(socket); errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		w.tell(time.Now())
		time.Sleep(pause)
	}
}

// read waits for packets, and takes those that are there.
func (w *watch) read(socket syscall.RawConn) (broken error) {
	err := socket.Read(func(fd uintptr) bool {
		for taken := range atOnce {
			datagram, err := w.receive(int(fd))
			switch {
			case err == syscall.EAGAIN:
				return taken > 0
			case err == syscall.ENOBUFS || err == syscall.EINTR:
				continue // the numbers tell how many were lost
			case err != nil:
				broken = err
				return true
			}
			w.take(datagram, time.Now())
		}
		return true
	})
	return errors.Join(err, broken)
}

// receive is one datagram of the kernel's; empty for one that somebody else has sent.
func (w *watch) receive(fd int) ([]byte, error) {
	size, from, err := syscall.Recvfrom(fd, w.buffer[:], 0)
	if err != nil {
		return nil, err
	}
	if kernel, ok := from.(*syscall.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return nil, nil
	}
	return w.buffer[:size], nil
}

func (w *watch) take(datagram []byte, now time.Time) {
	for _, m := range messagesOf(datagram) {
		w.countLost(m, now)
		if m.readable {
			w.table.add(w.listener.HostOf(m.packet.To.Addr()), m.packet, 1, now)
		} else {
			w.table.add(Many, Packet{}, 1, now)
		}
	}
}

// countLost: there was no room for those whose numbers are missing.
func (w *watch) countLost(m message, now time.Time) {
	if !m.numbered {
		return
	}
	if lost := int32(m.number - w.number); lost > 0 {
		w.table.add(Many, Packet{}, int(lost), now)
	}
	w.number = m.number + 1
}

func (w *watch) tell(now time.Time) {
	for _, refusal := range w.table.due(now) {
		if !w.listener.Tell(refusal) {
			w.table.again(refusal, now)
		}
	}
}
