package door

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"cloche/guest/internal/refusals"
)

func refusedAt(host, to, protocol string, count int) refusals.Refusal {
	return refusals.Refusal{Host: host, Count: count, Packet: refusals.Packet{Protocol: protocol,
		From: netip.MustParseAddrPort("198.18.0.1:40000"), To: netip.MustParseAddrPort(to)}}
}

func TestWhatIsRefusedWhileClosedIsRemembered(t *testing.T) {
	d := newDoor(t)
	listener := listener{d}
	if !listener.Tell(refusedAt("ntp.example", "198.18.0.20:123", "udp", 3)) || !listener.Tell(refusals.Refusal{Host: refusals.Many, Count: 9}) {
		t.Error("nobody has heard")
	}
	all := d.Attempts()
	if len(all) != 2 || all[0].Host != "ntp.example" || all[0].Port != 123 || all[0].Protocol != "udp" || all[0].Count != 3 {
		t.Errorf("%+v", all)
	}
	if all[1].Host != "*" || all[1].Protocol != "other" || all[1].Count != 9 {
		t.Errorf("%+v", all)
	}
}

func TestWhatIsRefusedIsToldToTheDoor(t *testing.T) {
	d := openDoor(t)
	listener := listener{d}
	if listener.Tell(refusedAt("ntp.example", "198.18.0.20:123", "udp", 1)) {
		t.Error("without a door nobody can hear")
	}
	o := attach(t, d)
	if !listener.Tell(refusedAt("ntp.example", "198.18.0.20:123", "udp", 4)) {
		t.Error("nobody has heard")
	}
	_ = o.control.SetReadDeadline(time.Now().Add(patience))
	raw, err := o.lines.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var said refusal
	if err := json.Unmarshal(raw, &said); err != nil || said != (refusal{Op: "refused", Host: "ntp.example", Port: 123, Protocol: "udp", Count: 4}) {
		t.Errorf("%s, %v", raw, err)
	}
	if len(d.Attempts()) != 0 {
		t.Error("the door knows it already")
	}
}

func TestAnAddressThatStandsForANameIsRefusedByIt(t *testing.T) {
	d := openDoor(t)
	given := d.names.address("ntp.example")
	listener := listener{d}
	if host := listener.HostOf(given); host != "ntp.example" {
		t.Error(host)
	}
	for _, address := range []string{"198.18.9.9", "8.8.8.8", "2001:db8::1"} {
		if host := listener.HostOf(netip.MustParseAddr(address)); host != address {
			t.Errorf("%s: %s", address, host)
		}
	}
}
