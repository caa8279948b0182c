package door

import (
	"container/list"
	"encoding/binary"
	"net/netip"
	"sync"
)

const maxNames = 65536

var (
	// given are the addresses that stand for names; no host on the internet has one of them.
	given      = netip.MustParsePrefix("198.18.0.0/15")
	firstGiven = number(netip.MustParseAddr("198.18.0.16")) // below are the sandbox's own
	lastGiven  = number(netip.MustParseAddr("198.19.255.254"))
)

// names is which address was given out for which name. An address comes again only after all the others have: of those
// there are twice as many as names are kept, so a program that holds on to one reaches what it meant, or nothing.
type names struct {
	mu        sync.Mutex
	next      uint32
	byName    map[string]*list.Element
	byAddress map[uint32]*list.Element
	used      list.List // the most recently used first
}

type naming struct {
	name    string
	address uint32
}

func (n *names) init() {
	n.next, n.byName, n.byAddress = firstGiven, map[string]*list.Element{}, map[uint32]*list.Element{}
}

// address is the one that stands for a name, from now on if none does yet.
func (n *names) address(name string) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if known, ok := n.byName[name]; ok {
		n.used.MoveToFront(known)
		return addressOf(known.Value.(naming).address)
	}
	if n.used.Len() >= maxNames {
		n.forget(n.used.Back())
	}
	address := n.free()
	made := n.used.PushFront(naming{name, address})
	n.byName[name], n.byAddress[address] = made, made
	return addressOf(address)
}

func (n *names) free() uint32 {
	for {
		address := n.next
		if n.next++; n.next > lastGiven {
			n.next = firstGiven
		}
		if n.byAddress[address] == nil {
			return address
		}
	}
}

func (n *names) forget(oldest *list.Element) {
	gone := n.used.Remove(oldest).(naming)
	delete(n.byName, gone.name)
	delete(n.byAddress, gone.address)
}

// name is what an address was given out for.
func (n *names) name(address netip.Addr) (string, bool) {
	if !address.Is4() {
		return "", false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	known, ok := n.byAddress[number(address)]
	if !ok {
		return "", false
	}
	n.used.MoveToFront(known)
	return known.Value.(naming).name, true
}

func number(address netip.Addr) uint32 {
	bytes := address.As4()
	return binary.BigEndian.Uint32(bytes[:])
}

func addressOf(number uint32) netip.Addr {
	var bytes [4]byte
	binary.BigEndian.PutUint32(bytes[:], number)
	return netip.AddrFrom4(bytes)
}
