// Package refusals reads what the kernel tells of packets that it has refused by the rules of package redirect: UDP, pings
// and whatever else is no TCP. Nothing of it leaves, and here it is seen.
//
// The messages are the kernel's; the packets in them are made by the code inside, and every byte of them may be hostile.
package refusals

import (
	"encoding/binary"
	"net/netip"
	"syscall"
)

const (
	headerBytes    = 16
	genericBytes   = 4
	attributeBytes = 4
	packetMessage  = 4 << 8
	attributePay   = 9
	attributeCount = 12
	kindMask       = 0x3fff
)

// Packet is where one was going, and from which port. Ports are 0 where its protocol has none.
type Packet struct {
	Protocol string // "udp", "icmp" or "other"
	From, To netip.AddrPort
}

// message is one of the kernel's: a packet, and its number in the row of all that were refused.
type message struct {
	packet   Packet
	readable bool // the packet's headers could be read
	number   uint32
	numbered bool
}

// messagesOf are those of one datagram. What is none, or is cut off, ends them.
func messagesOf(datagram []byte) (found []message) {
	for len(datagram) >= headerBytes {
		length := int(binary.NativeEndian.Uint32(datagram))
		if length < headerBytes || length > len(datagram) {
			return found
		}
		if binary.NativeEndian.Uint16(datagram[4:]) == packetMessage && length >= headerBytes+genericBytes {
			found = append(found, messageOf(datagram[headerBytes+genericBytes:length]))
		}
		datagram = datagram[min((length+3)&^3, len(datagram)):]
	}
	return found
}

func messageOf(attributes []byte) (m message) {
	for len(attributes) >= attributeBytes {
		length := int(binary.NativeEndian.Uint16(attributes))
		if length < attributeBytes || length > len(attributes) {
			return m
		}
		m.take(binary.NativeEndian.Uint16(attributes[2:])&kindMask, attributes[attributeBytes:length])
		attributes = attributes[min((length+3)&^3, len(attributes)):]
	}
	return m
}

func (m *message) take(kind uint16, value []byte) {
	switch {
	case kind == attributePay:
		m.packet, m.readable = packetOf(value)
	case kind == attributeCount && len(value) == 4:
		m.number, m.numbered = binary.BigEndian.Uint32(value), true
	}
}

// packetOf reads the headers of a packet of either family.
func packetOf(bytes []byte) (Packet, bool) {
	if len(bytes) == 0 {
		return Packet{}, false
	}
	switch bytes[0] >> 4 {
	case 4:
		return packetOf4(bytes)
	case 6:
		return packetOf6(bytes)
	}
	return Packet{}, false
}

func packetOf4(bytes []byte) (Packet, bool) {
	const least, fragment = 20, 0x1fff
	if len(bytes) < least {
		return Packet{}, false
	}
	from, to := netip.AddrFrom4([4]byte(bytes[12:16])), netip.AddrFrom4([4]byte(bytes[16:20]))
	rest := bytes[min(max(int(bytes[0]&0xf)*4, least), len(bytes)):]
	if binary.BigEndian.Uint16(bytes[6:])&fragment != 0 {
		rest = nil // its ports were in the first one
	}
	return carried(bytes[9], from, to, rest), true
}

func packetOf6(bytes []byte) (Packet, bool) {
	const fixed = 40
	if len(bytes) < fixed {
		return Packet{}, false
	}
	from, to := netip.AddrFrom16([16]byte(bytes[8:24])), netip.AddrFrom16([16]byte(bytes[24:40]))
	protocol, rest := pastExtensions(bytes[6], bytes[fixed:])
	return carried(protocol, from, to, rest), true
}

// pastExtensions is the protocol behind the headers that IPv6 puts between, and what comes after them.
func pastExtensions(protocol byte, rest []byte) (byte, []byte) {
	const most, hopByHop, routing, fragment, authentication, options = 8, 0, 43, 44, 51, 60
	for range most {
		length := 0
		switch protocol {
		case hopByHop, routing, options:
			length = 8
			if len(rest) > 1 {
				length += int(rest[1]) * 8
			}
		case authentication:
			length = 8
			if len(rest) > 1 {
				length += int(rest[1]) * 4
			}
		case fragment:
			if len(rest) >= 4 && binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0 {
				return rest[0], nil
			}
			length = 8
		default:
			return protocol, rest
		}
		if length > len(rest) {
			return protocol, nil
		}
		protocol, rest = rest[0], rest[length:]
	}
	return protocol, nil
}

func carried(protocol byte, from, to netip.Addr, rest []byte) Packet {
	packet := Packet{Protocol: "other", From: netip.AddrPortFrom(from, 0), To: netip.AddrPortFrom(to.Unmap(), 0)}
	switch protocol {
	case syscall.IPPROTO_ICMP, syscall.IPPROTO_ICMPV6:
		packet.Protocol = "icmp"
	case syscall.IPPROTO_UDP:
		packet.Protocol = "udp"
		if len(rest) >= 4 {
			packet.From = netip.AddrPortFrom(from, binary.BigEndian.Uint16(rest))
			packet.To = netip.AddrPortFrom(to.Unmap(), binary.BigEndian.Uint16(rest[2:]))
		}
	}
	return packet
}
