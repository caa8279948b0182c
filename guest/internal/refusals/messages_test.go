package refusals

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

func attribute(kind uint16, value []byte) []byte {
	made := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	made = append(binary.NativeEndian.AppendUint16(made, kind), value...)
	for len(made)%4 != 0 {
		made = append(made, 0)
	}
	return made
}

// told is a message of the kernel's, as it makes them.
func told(number uint32, packet []byte) []byte {
	body := attribute(1, []byte{8, 0, 3, 0})
	body = append(body, attribute(10, []byte{0})...)
	body = append(body, attribute(attributePay, packet)...)
	body = append(body, attribute(attributeCount, binary.BigEndian.AppendUint32(nil, number))...)
	made := binary.NativeEndian.AppendUint32(nil, uint32(headerBytes+genericBytes+len(body)))
	made = binary.NativeEndian.AppendUint16(made, packetMessage)
	made = append(made, make([]byte, 10)...)
	return append(append(made, 2, 0, 0, 1), body...)
}

func done() []byte {
	made := binary.NativeEndian.AppendUint32(nil, 20)
	made = binary.NativeEndian.AppendUint16(made, 3)
	return append(made, make([]byte, 14)...)
}

func packet4(protocol byte, to string, behind ...byte) []byte {
	made := make([]byte, 20)
	made[0], made[9] = 0x45, protocol
	copy(made[12:], []byte{198, 18, 0, 1})
	address := netip.MustParseAddr(to).As4()
	copy(made[16:], address[:])
	return append(made, behind...)
}

func packet6(next byte, to string, behind ...byte) []byte {
	made := make([]byte, 40)
	made[0], made[6], made[23] = 0x60, next, 1
	address := netip.MustParseAddr(to).As16()
	copy(made[24:], address[:])
	return append(made, behind...)
}

var ports = []byte{0x9c, 0x40, 0x01, 0xbb, 0, 8, 0, 0} // from 40000 to 443

func TestPacketsAreRead(t *testing.T) {
	options := packet4(17, "8.8.8.8", append([]byte{1, 1, 1, 1}, ports...)...)
	options[0] = 0x46
	fragment := packet4(17, "8.8.8.8", ports...)
	fragment[7] = 1
	cases := map[string]struct {
		bytes    []byte
		protocol string
		to       string
	}{
		"udp":               {packet4(17, "8.8.8.8", ports...), "udp", "8.8.8.8:443"},
		"udp with options":  {options, "udp", "8.8.8.8:443"},
		"a later fragment":  {fragment, "udp", "8.8.8.8:0"},
		"udp, cut off":      {packet4(17, "8.8.8.8", 1, 2, 3), "udp", "8.8.8.8:0"},
		"ping":              {packet4(1, "8.8.8.8", 8, 0, 0, 0), "icmp", "8.8.8.8:0"},
		"gre":               {packet4(47, "8.8.8.8", ports...), "other", "8.8.8.8:0"},
		"headers only":      {packet4(17, "8.8.8.8"), "udp", "8.8.8.8:0"},
		"udp by IPv6":       {packet6(17, "2001:db8::1", ports...), "udp", "[2001:db8::1]:443"},
		"a mapped address":  {packet6(17, "::ffff:8.8.8.8", ports...), "udp", "8.8.8.8:443"},
		"ping by IPv6":      {packet6(58, "2001:db8::1", 128, 0), "icmp", "[2001:db8::1]:0"},
		"behind options":    {packet6(0, "2001:db8::1", append([]byte{17, 0, 0, 0, 0, 0, 0, 0}, ports...)...), "udp", "[2001:db8::1]:443"},
		"behind two":        {packet6(60, "2001:db8::1", append([]byte{43, 0, 0, 0, 0, 0, 0, 0, 17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ports...)...), "udp", "[2001:db8::1]:443"},
		"first fragment":    {packet6(44, "2001:db8::1", append([]byte{17, 0, 0, 1, 0, 0, 0, 1}, ports...)...), "udp", "[2001:db8::1]:443"},
		"second fragment":   {packet6(44, "2001:db8::1", append([]byte{17, 0, 0, 8, 0, 0, 0, 1}, ports...)...), "udp", "[2001:db8::1]:0"},
		"authentication":    {packet6(51, "2001:db8::1", append([]byte{17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ports...)...), "udp", "[2001:db8::1]:443"},
		"a header too long": {packet6(0, "2001:db8::1", 17, 255, 0, 0, 0, 0, 0, 0), "other", "[2001:db8::1]:0"},
		"headers for ever":  {packet6(0, "2001:db8::1", make([]byte, 80)...), "other", "[2001:db8::1]:0"},
	}
	for name, c := range cases {
		got, ok := packetOf(c.bytes)
		if !ok || got.Protocol != c.protocol || got.To != netip.MustParseAddrPort(c.to) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	if got, _ := packetOf(packet4(17, "8.8.8.8", ports...)); got.From != netip.MustParseAddrPort("198.18.0.1:40000") {
		t.Errorf("from %v", got.From)
	}
}

func TestWhatIsNoPacketIsNotRead(t *testing.T) {
	for _, bytes := range [][]byte{nil, {0x45}, make([]byte, 100), {0x60, 1}, packet4(17, "8.8.8.8")[:19], packet6(17, "::1")[:39]} {
		if got, ok := packetOf(bytes); ok {
			t.Errorf("%x: %+v", bytes, got)
		}
	}
}

func TestMessagesOfOneDatagram(t *testing.T) {
	datagram := append(told(7, packet4(17, "8.8.8.8", ports...)), told(8, packet4(1, "9.9.9.9", 8))...)
	datagram = append(datagram, done()...)
	got := messagesOf(datagram)
	if len(got) != 2 || got[0].number != 7 || got[1].number != 8 || !got[1].readable || got[1].packet.Protocol != "icmp" {
		t.Fatalf("%+v", got)
	}
	if cut := messagesOf(datagram[:len(datagram)-40]); len(cut) != 1 {
		t.Errorf("cut off: %+v", cut)
	}
	if bad := messagesOf(told(1, []byte("no packet"))); len(bad) != 1 || bad[0].readable || !bad[0].numbered {
		t.Errorf("%+v", bad)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(append(told(7, packet4(17, "8.8.8.8", ports...)), done()...))
	f.Add(told(0, packet6(0, "2001:db8::1", append([]byte{17, 0, 0, 0, 0, 0, 0, 0}, ports...)...)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		for _, m := range messagesOf(datagram) {
			check(t, m.packet, m.readable)
		}
	})
}

// FuzzPacket: these bytes are the code's.
func FuzzPacket(f *testing.F) {
	f.Add(packet4(17, "8.8.8.8", ports...))
	f.Add(packet6(44, "2001:db8::1", append([]byte{17, 0, 0, 1, 0, 0, 0, 1}, ports...)...))
	f.Add(packet6(51, "2001:db8::1", append([]byte{17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ports...)...))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		packet, ok := packetOf(bytes)
		check(t, packet, ok)
		if got := messagesOf(told(1, bytes)); len(bytes) < 60_000 && (len(got) != 1 || got[0].packet != packet) {
			t.Errorf("%+v in a message is %+v", packet, got)
		}
	})
}

func check(t *testing.T, packet Packet, readable bool) {
	t.Helper()
	if !readable {
		if packet != (Packet{}) {
			t.Errorf("%+v was not read", packet)
		}
		return
	}
	known := map[string]bool{"udp": true, "icmp": true, "other": true}
	if !known[packet.Protocol] || !packet.To.IsValid() || packet.To.Addr().Zone() != "" || packet.To.Addr().Is4In6() {
		t.Errorf("%+v", packet)
	}
	if packet.Protocol != "udp" && (packet.To.Port() != 0 || packet.From.Port() != 0) {
		t.Errorf("%+v has ports", packet)
	}
}
