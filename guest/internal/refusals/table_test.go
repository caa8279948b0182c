package refusals

import (
	"net/netip"
	"testing"
	"time"
)

var begin = time.Unix(1_000_000, 0)

func to(port uint16) Packet {
	return Packet{Protocol: "udp", To: netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), port)}
}

func TestTheFirstIsToldAtOnceAndTheOthersAfterAWhile(t *testing.T) {
	var known table
	known.add("ntp.example", to(123), 1, begin)
	first := known.due(begin)
	if len(first) != 1 || first[0] != (Refusal{"ntp.example", 1, to(123)}) {
		t.Fatalf("%+v", first)
	}
	for range 5 {
		known.add("ntp.example", to(123), 1, begin.Add(time.Second))
	}
	if early := known.due(begin.Add(Window - 1)); len(early) != 0 {
		t.Errorf("%+v", early)
	}
	if next, any := known.next(); !any || next != begin.Add(Window) {
		t.Error(next, any)
	}
	if later := known.due(begin.Add(Window)); len(later) != 1 || later[0].Count != 5 {
		t.Errorf("%+v", later)
	}
	known.due(begin.Add(2 * Window))
	if next, any := known.next(); any {
		t.Error("something is still known: ", next)
	}
}

func TestWhatDiffersIsToldApart(t *testing.T) {
	var known table
	known.add("a.example", to(1), 1, begin)
	known.add("a.example", to(2), 1, begin)
	known.add("b.example", to(1), 1, begin)
	known.add("a.example", Packet{Protocol: "icmp"}, 1, begin)
	if all := known.due(begin); len(all) != 4 {
		t.Errorf("%+v", all)
	}
}

func TestWhatNobodyHasHeardIsToldAgain(t *testing.T) {
	var known table
	known.add("a.example", to(1), 3, begin)
	known.again(known.due(begin)[0], begin)
	known.add("a.example", to(1), 1, begin)
	if early := known.due(begin.Add(patience - 1)); len(early) != 0 {
		t.Errorf("%+v", early)
	}
	if later := known.due(begin.Add(patience)); len(later) != 1 || later[0].Count != 4 {
		t.Errorf("%+v", later)
	}
}

func TestAScanFillsNoMemoryAndIsCountedWhole(t *testing.T) {
	var known table
	const scanned = 60_000
	for port := range scanned {
		known.add("8.8.8.8", to(uint16(port)), 1, begin)
	}
	if len(known.known) > maxKinds+1 {
		t.Error(len(known.known))
	}
	sum, many := 0, 0
	for _, each := range known.due(begin) {
		sum += each.Count
		if each.Host == Many {
			many = each.Count
		}
	}
	if sum != scanned || many != scanned-maxKinds {
		t.Error(sum, many)
	}
}

func TestACountHasAnEnd(t *testing.T) {
	var known table
	for range 3 {
		known.add("8.8.8.8", to(1), maxCount, begin)
	}
	if all := known.due(begin); all[0].Count != maxCount {
		t.Errorf("%+v", all)
	}
}
