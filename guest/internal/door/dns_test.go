package door

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// ask builds a query for a name, with EDNS when size is above 0.
func ask(name string, kind uint16, size uint16) []byte {
	message := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, label := range strings.Split(name, ".") {
		if label != "" {
			message = append(append(message, byte(len(label))), label...)
		}
	}
	message = append(message, 0)
	message = binary.BigEndian.AppendUint16(message, kind)
	message = binary.BigEndian.AppendUint16(message, classIN)
	if size > 0 {
		message[11] = 1
		message = append(message, 0, 0, typeOPT)
		message = binary.BigEndian.AppendUint16(message, size)
		message = append(message, 0, 0, 0, 0, 0, 0)
	}
	return message
}

func code(answer []byte) int { return int(answer[3] & 15) }

func count(answer []byte) int { return int(u16(answer[6:])) }

func TestAllowedNameGetsAnAddressThatLeadsBackToIt(t *testing.T) {
	d := openDoor(t)
	attach(t, d).answerLookups("yes")
	_, answer := d.resolve(ask("Example.COM", typeA, 0))
	if code(answer) != noError || count(answer) != 1 || u16(answer) != 0x1234 || answer[2]&0x80 == 0 {
		t.Fatalf("%x", answer)
	}
	address, _ := netip.AddrFromSlice(answer[len(answer)-4:])
	if name, ok := d.names.name(address); name != "example.com" || !ok || !given.Contains(address) {
		t.Fatalf("%s %q", address, name)
	}
	for _, kind := range []uint16{typeAAAA, typeHTTPS, typeSVCB} {
		if _, answer := d.resolve(ask("example.com", kind, 0)); code(answer) != noError || count(answer) != 0 {
			t.Fatalf("%d: %x", kind, answer)
		}
	}
	octets := address.As4()
	slices.Reverse(octets[:])
	_, answer = d.resolve(ask(netip.AddrFrom4(octets).String()+".in-addr.arpa", typePTR, 0))
	if count(answer) != 1 || !strings.HasSuffix(string(answer), "\x07example\x03com\x00") {
		t.Fatalf("%x", answer)
	}
}

func TestVerdictsAndNoDoor(t *testing.T) {
	for verdict, want := range map[string]int{"no": nxDomain, "fail": servFail, "nonsense": servFail} {
		d := openDoor(t)
		attach(t, d).answerLookups(verdict)
		for _, kind := range []uint16{typeA, typeAAAA, typeHTTPS} {
			if _, answer := d.resolve(ask("example.com", kind, 0)); code(answer) != want {
				t.Errorf("%s: %x", verdict, answer)
			}
		}
	}
	d := openDoor(t)
	d.control.patience = time.Millisecond
	if _, answer := d.resolve(ask("example.com", typeA, 0)); code(answer) != servFail {
		t.Errorf("no door: %x", answer)
	}
}

func TestDoorThatBeginsIsWaitedFor(t *testing.T) {
	d := openDoor(t)
	d.control.patience = patience
	answers := make(chan []byte)
	go func() {
		_, answer := d.resolve(ask("example.com", typeA, 0))
		answers <- answer
	}()
	first := attach(t, d)
	if said := first.line(); said.Op != "resolve" {
		t.Fatalf("%+v", said)
	}
	_ = first.control.Close() // it ends before it has answered
	for d.current() != nil {
		time.Sleep(time.Millisecond)
	}
	attach(t, d).answerLookups("yes")
	if answer := <-answers; code(answer) != noError || count(answer) != 1 {
		t.Fatalf("%x", answer)
	}
}

func TestNobodyWaitsForTheDoorOfAClosedSandbox(t *testing.T) {
	d := newDoor(t)
	d.control.patience = patience
	if _, err := d.control.ask(asked{Op: "query"}); !errors.Is(err, errNoControl) {
		t.Fatal(err)
	}
}

func TestClosedSandboxKnowsNoNames(t *testing.T) {
	d := newDoor(t)
	for _, kind := range []uint16{typeA, typeAAAA, 16, 15} {
		if _, answer := d.resolve(ask("Example.com.", kind, 0)); code(answer) != nxDomain {
			t.Errorf("%x", answer)
		}
	}
	if all := d.Attempts(); len(all) != 1 || all[0].Host != "example.com" || all[0].Protocol != "dns" || all[0].Count != 4 {
		t.Errorf("%+v", all)
	}
}

func TestLocalhostIsNobodysBusiness(t *testing.T) {
	d := newDoor(t)
	for _, name := range []string{"localhost", "LocalHost", "a.b.localhost"} {
		if _, answer := d.resolve(ask(name, typeA, 0)); !strings.HasSuffix(string(answer), "\x7f\x00\x00\x01") {
			t.Errorf("%x", answer)
		}
		if _, answer := d.resolve(ask(name, typeAAAA, 0)); count(answer) != 1 {
			t.Errorf("%x", answer)
		}
		if _, answer := d.resolve(ask(name, 16, 0)); code(answer) != noError || count(answer) != 0 {
			t.Errorf("%x", answer)
		}
	}
	if _, answer := d.resolve(ask("1.0.0.127.in-addr.arpa", typePTR, 0)); !strings.HasSuffix(string(answer), "\x09localhost\x00") {
		t.Errorf("%x", answer)
	}
	if len(d.Attempts()) != 0 {
		t.Error(d.Attempts())
	}
}

func TestWhatIsNoQuestionForUs(t *testing.T) {
	d := openDoor(t)
	odd := ask("example.com", typeA, 0)
	odd[13] = 'a' ^ 0x80
	version := ask("example.com", typeA, 512)
	version[len(version)-5] = 1
	class := ask("example.com", typeA, 0)
	class[len(class)-1] = 3
	opcode := ask("example.com", typeA, 0)
	opcode[2] = 0x10
	for what, given := range map[string]struct {
		message []byte
		want    int
	}{
		"any": {ask("example.com", typeANY, 0), refused}, "axfr": {ask("example.com", typeAXFR, 0), refused},
		"class": {class, refused}, "opcode": {opcode, notImp}, "odd name": {odd, nxDomain}, "root": {ask("", 2, 0), refused},
		"dot in a label": {append(ask("", 0, 0)[:12], "\x03a.b\x03com\x00\x00\x01\x00\x01"...), nxDomain},
		"two questions":  {append([]byte{0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0}, ask("a.b", typeA, 0)[12:]...), formErr},
		"a loop":         {append(ask("", 0, 0)[:12], 0xc0, 12, 0, 1, 0, 1), formErr},
		"cut":            {ask("example.com", typeA, 0)[:20], formErr},
		"records cut":    {ask("example.com", typeA, 512)[:len(ask("example.com", typeA, 512))-3], formErr},
		"edns 1":         {version, badVersion & 15},
	} {
		if _, answer := d.resolve(given.message); answer == nil || code(answer) != given.want {
			t.Errorf("%s: %x", what, answer)
		}
	}
	for _, silent := range [][]byte{nil, make([]byte, 11), {0, 1, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0}} {
		if _, answer := d.resolve(silent); answer != nil {
			t.Errorf("%x: %x", silent, answer)
		}
	}
}

func TestEDNSIsAnsweredWithEDNS(t *testing.T) {
	d := newDoor(t)
	q, answer := d.resolve(ask("localhost", typeA, 4000))
	if answer[11] != 1 || u16(answer[len(answer)-8:]) != ownPacket || q.packet != 4000 {
		t.Fatalf("%x", answer)
	}
}

// other answers every query of another type with a message of this many bytes.
func (o *outer) other(size int) {
	go func() {
		said := o.line()
		if said.Op != "query" || len(said.Message) < headerBytes {
			o.t.Errorf("%+v", said)
		}
		message := append(slices.Clone(said.Message), make([]byte, size-len(said.Message))...)
		copy(message, "\xff\xff\x81\x80")
		o.say(fmt.Sprintf(`{"op":"answer","id":%d,"message":"%s"}`, said.ID, base64.StdEncoding.EncodeToString(message)))
	}()
}

func TestOtherQuestionsGoToTheDoorAndLargeAnswersOverTCP(t *testing.T) {
	d := openDoor(t)
	o := attach(t, d)
	address := d.address("dns")
	packets, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	_ = packets.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 70000)
	for size, want := range map[int]bool{500: false, 600: true} {
		o.other(size)
		_, _ = packets.Write(ask("example.com", 16, 0))
		n, err := packets.Read(buf)
		if err != nil || u16(buf) != 0x1234 || (buf[2]&2 != 0) != want || (want && n > 512) {
			t.Fatalf("%d: %x %v", size, buf[:n], err)
		}
	}
	o.other(40000)
	tcp := dial(t, d, "dns")
	question := ask("example.com", 16, 0)
	mustSay(t, tcp, string(binary.BigEndian.AppendUint16(nil, uint16(len(question))))+string(question))
	var size [2]byte
	if _, err := io.ReadFull(tcp, size[:]); err != nil || u16(size[:]) != 40000 {
		t.Fatal(size, err)
	}
	if _, err := io.ReadFull(tcp, buf[:40000]); err != nil || u16(buf) != 0x1234 {
		t.Fatal(err)
	}
}

func TestWrongLengthsOverTCPEndTheConnection(t *testing.T) {
	d := openDoor(t)
	for _, wrong := range []string{"\x00\x00", "\x00\x0b", "\xff\xff"} {
		tcp := dial(t, d, "dns")
		mustSay(t, tcp, wrong)
		mustEnd(t, tcp)
	}
}

func TestNamesAreKeptByUseAndAddressesNotSoonAgain(t *testing.T) {
	var n names
	n.init()
	first := n.address("first.example")
	seen := map[netip.Addr]bool{first: true}
	for i := range maxNames + 1000 {
		address := n.address(fmt.Sprintf("n%d.example", i))
		if seen[address] || !given.Contains(address) {
			t.Fatal(address)
		}
		seen[address] = true
		if i%1000 == 0 && n.address("first.example") != first {
			t.Fatal("a name in use has another address")
		}
	}
	if len(n.byName) != maxNames || len(n.byAddress) != maxNames || n.used.Len() != maxNames {
		t.Fatal(len(n.byName), len(n.byAddress), n.used.Len())
	}
	if _, ok := n.name(netip.MustParseAddr("198.18.0.17")); ok {
		t.Fatal("an old name is known")
	}
}

func FuzzDNS(f *testing.F) {
	f.Add(ask("example.com", typeA, 1232))
	f.Add(ask("1.0.18.198.in-addr.arpa", typePTR, 0))
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x04\xc0\x0c\x00\x01\x00\x01\xc0\x0c"))
	d := New(Config{DiagFD: -1})
	d.open.Store(true)
	f.Fuzz(func(t *testing.T, message []byte) {
		q, answer := d.resolve(message)
		if answer == nil {
			return
		}
		if len(answer) < headerBytes || u16(answer) != u16(message) || answer[2]&0x80 == 0 {
			t.Fatalf("%x", answer)
		}
		if _, ok := cleanName(q.name); q.name != "" && !ok {
			t.Fatalf("%q", q.name)
		}
		if again, err := parseQuery(append([]byte{0, 0, 0, 0}, answer[4:]...)); again == nil || (count(answer) == 0 && q.question != nil && err != nil) {
			t.Fatalf("%x: %v", answer, err)
		}
	})
}
