package door

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxQuery  = 4096
	maxAnswer = 65535
)

// asking is a question for a name that more than one may wait for: a libc asks for both kinds of addresses at once.
type asking struct {
	done    chan struct{}
	verdict string
}

type lookups struct {
	mu   sync.Mutex
	open map[string]*asking
}

// serveDNS answers packets until they end.
func (d *Door) serveDNS(packets *net.UDPConn) {
	busy := make(chan struct{}, maxQuestions)
	buf := make([]byte, maxQuery)
	for {
		n, from, err := packets.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		message := slices.Clone(buf[:n])
		select {
		case busy <- struct{}{}:
			go func() {
				defer func() { <-busy }()
				d.answerPacket(packets, from, message)
			}()
		default: // a flood: whoever meant it asks again
		}
	}
}

func (d *Door) answerPacket(packets *net.UDPConn, to netip.AddrPort, message []byte) {
	q, answer := d.resolve(message)
	if answer == nil {
		return
	}
	if len(answer) > q.packet {
		answer = q.cut()
	}
	_, _ = packets.WriteToUDPAddrPort(answer, to)
}

// serveDNSOverTCP answers one question after the other.
func (d *Door) serveDNSOverTCP(code *net.TCPConn) {
	for {
		_ = code.SetDeadline(time.Now().Add(handshake))
		var size [2]byte
		if _, err := io.ReadFull(code, size[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint16(size[:])
		if n < headerBytes || n > maxQuery {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(code, message); err != nil {
			return
		}
		_ = code.SetDeadline(time.Time{})
		_, answer := d.resolve(message)
		if answer == nil {
			return
		}
		_ = code.SetDeadline(time.Now().Add(handshake))
		if _, err := code.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// resolve answers one message; no answer is for what is no question.
func (d *Door) resolve(message []byte) (*query, []byte) {
	q, err := parseQuery(message)
	switch {
	case q == nil:
		return nil, nil
	case q.opcode() != 0:
		q.question = nil
		return q, q.answer(notImp)
	case err != nil:
		return q, q.answer(formErr)
	case q.version != 0:
		return q, q.answer(badVersion)
	case q.class != classIN || (q.kind >= typeIXFR && q.kind <= typeANY) || q.kind == typeOPT:
		return q, q.answer(refused)
	case q.odd:
		return q, q.answer(nxDomain)
	case q.name == "":
		return q, q.answer(refused)
	case isLocalhost(q.name):
		return q, q.answer(noError, localhost(q.kind)...)
	case q.kind == typePTR:
		return q, d.reverse(q, message)
	case !d.open.Load():
		d.attempts.add(q.name, 0, "dns")
		return q, q.answer(nxDomain)
	case q.kind == typeA || q.kind == typeAAAA || q.kind == typeSVCB || q.kind == typeHTTPS:
		return q, d.forward(q)
	}
	return q, d.pass(q, message)
}

func localhost(kind uint16) []record {
	switch kind {
	case typeA:
		return []record{addressRecord(netip.AddrFrom4([4]byte{127, 0, 0, 1}))}
	case typeAAAA:
		return []record{addressRecord(netip.IPv6Loopback())}
	}
	return nil
}

// forward asks the door whether the name may be known. Its address is one of ours: what is sent there comes back to us
// with the name. There is no other kind of address, and no other way to reach it.
func (d *Door) forward(q *query) []byte {
	switch d.verdict(q.name) {
	case "yes":
		if q.kind != typeA {
			return q.answer(noError)
		}
		return q.answer(noError, addressRecord(d.names.address(q.name)))
	case "no":
		return q.answer(nxDomain)
	}
	return q.answer(servFail)
}

// verdict asks once for those who ask at the same time. It is not kept: the policy may change.
func (d *Door) verdict(name string) string {
	d.lookups.mu.Lock()
	if open, ok := d.lookups.open[name]; ok {
		d.lookups.mu.Unlock()
		<-open.done
		return open.verdict
	}
	mine := &asking{done: make(chan struct{})}
	if d.lookups.open == nil {
		d.lookups.open = map[string]*asking{}
	}
	d.lookups.open[name] = mine
	d.lookups.mu.Unlock()
	if said, err := d.control.ask(asked{Op: "resolve", Name: &name}); err == nil {
		mine.verdict = said.Verdict
	}
	d.lookups.mu.Lock()
	delete(d.lookups.open, name)
	d.lookups.mu.Unlock()
	close(mine.done)
	return mine.verdict
}

// pass hands a question of any other kind to the door as it is.
func (d *Door) pass(q *query, message []byte) []byte {
	said, err := d.control.ask(asked{Op: "query", Message: message})
	if err != nil || len(said.Message) < headerBytes || len(said.Message) > maxAnswer {
		return q.answer(servFail)
	}
	binary.BigEndian.PutUint16(said.Message, q.id)
	return said.Message
}

// reverse is for the addresses that this sandbox alone knows; for others the door is asked.
func (d *Door) reverse(q *query, message []byte) []byte {
	address, ok := reversed(q.name)
	switch {
	case ok && address.IsLoopback():
		return q.answer(noError, nameRecord("localhost"))
	case ok && given.Contains(address):
		if name, known := d.names.name(address); known {
			return q.answer(noError, nameRecord(name))
		}
		return q.answer(nxDomain)
	case !d.open.Load():
		return q.answer(nxDomain)
	}
	return d.pass(q, message)
}

// reversed is the IPv4 address of d.c.b.a.in-addr.arpa.
func reversed(name string) (netip.Addr, bool) {
	digits, ok := strings.CutSuffix(name, ".in-addr.arpa")
	if !ok {
		return netip.Addr{}, false
	}
	labels := strings.Split(digits, ".")
	slices.Reverse(labels)
	address, err := netip.ParseAddr(strings.Join(labels, "."))
	return address, err == nil && address.Is4()
}
