package door

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

func TestRedirectedConnectionIsCarriedWithItsDestination(t *testing.T) {
	o := attached(t)
	stream, code := o.redirected("203.0.113.7:443")
	mustSay(t, code, "before the answer")
	if h := readHead(t, stream); h.Kind != "connect" || h.Host != "203.0.113.7" || h.Port != 443 || h.Via != "redirect" {
		t.Fatalf("%+v", h)
	}
	mustRead(t, stream, "before the answer")
	sendVerdict(t, stream, `{"ok":true}`)
	mustSay(t, stream, "hello")
	mustRead(t, code, "hello")
	_ = code.CloseWrite()
	mustEnd(t, stream)
	mustSay(t, stream, "still open this way")
	mustRead(t, code, "still open this way")
	_ = stream.CloseWrite()
	mustEnd(t, code)
}

func TestRefusalResetsARedirectedConnection(t *testing.T) {
	o := attached(t)
	stream, code := o.redirected("[2001:db8::1]:80")
	if h := readHead(t, stream); h.Host != "2001:db8::1" {
		t.Fatalf("%+v", h)
	}
	sendVerdict(t, stream, `{"ok":false,"code":"denied","message":"no"}`)
	mustReset(t, code)
}

func TestWhatTheDoorGivesUpIsResetForTheCode(t *testing.T) {
	o := attached(t)
	stream, code := o.redirected("203.0.113.7:443")
	readHead(t, stream)
	sendVerdict(t, stream, `{"ok":true}`)
	_ = stream.Close()
	mustEnd(t, code)
	mustSay(t, code, "to nobody")
	for { // the first bytes may still be taken before their loss is noticed
		if _, err := code.Write([]byte("x")); err != nil {
			return
		}
	}
}

func TestAddressThatWasNeverGivenOutIsResetWithoutAsking(t *testing.T) {
	o := attached(t)
	redirectTo(o.d, "198.18.0.99:443")
	o.park()
	mustBeReset(t, o.d, "redirect")
	if len(o.d.parked.streams) != 1 {
		t.Fatal("the door was asked")
	}
}

func TestNameOfAnAddressGoesToTheDoor(t *testing.T) {
	o := attached(t)
	stream, _ := o.redirected(o.d.names.address("example.com").String() + ":8443")
	if h := readHead(t, stream); h.Host != "example.com" || h.Port != 8443 {
		t.Fatalf("%+v", h)
	}
}

func TestClosedSandboxResetsAndRemembers(t *testing.T) {
	d := newDoor(t)
	redirectTo(d, "203.0.113.7:443")
	mustBeReset(t, d, "redirect")
	mustBeReset(t, d, "redirect")
	all := d.Attempts()
	if len(all) != 1 || all[0].Host != "203.0.113.7" || all[0].Port != 443 || all[0].Protocol != "tcp" || all[0].Count != 2 {
		t.Fatalf("%+v", all)
	}
}

func TestAttemptsAreTheNewest(t *testing.T) {
	d := New(Config{DiagFD: -1})
	for i := range 2 * maxAttempts {
		d.attempts.add(fmt.Sprintf("h%d.example", i), i, "tcp")
	}
	all := d.Attempts()
	if len(all) != maxAttempts || all[len(all)-1].Port != 2*maxAttempts-1 || all[0].Port != maxAttempts {
		t.Fatalf("%d, %+v", len(all), all[0])
	}
}

func TestProxyClientIsHandedOverUnread(t *testing.T) {
	o := attached(t)
	stream := o.park()
	code := dial(t, o.d, "proxy")
	mustSay(t, code, "CONNECT x:1 HTTP/1.1\r\n\r\n")
	if h := readHead(t, stream); h.Kind != "proxy" || h.Host != "" {
		t.Fatalf("%+v", h)
	}
	sendVerdict(t, stream, `{"ok":true}`)
	mustRead(t, stream, "CONNECT x:1 HTTP/1.1\r\n\r\n")
	mustSay(t, stream, "HTTP/1.1 200 OK\r\n\r\n")
	mustRead(t, code, "HTTP/1.1 200 OK\r\n\r\n")
}

func TestClosedProxySaysSoAndRemembers(t *testing.T) {
	for request, want := range map[string]string{
		"CONNECT Example.com:443 HTTP/1.1\r\n\r\n": "example.com:443", "GET http://example.com/x HTTP/1.1\r\n\r\n": "example.com:80",
		"CONNECT [2001:db8::1]:22 HTTP/1.1\r\n\r\n": "2001:db8::1:22", "GET /x HTTP/1.1\r\n\r\n": "", "\x16\x03\x01\n": "",
		"CONNECT a b:443 HTTP/1.1\r\n\r\n": "", "CONNECT ex\x01ample.com:443 HTTP/1.1\r\n\r\n": "",
	} {
		d := newDoor(t)
		code := dial(t, d, "proxy")
		mustSay(t, code, request)
		answer, _ := io.ReadAll(code)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 403 ") || !strings.Contains(string(answer), `"egress_denied"`) {
			t.Errorf("%q: %q", request, answer)
		}
		got := ""
		for _, attempt := range d.Attempts() {
			got = fmt.Sprintf("%s:%d", attempt.Host, attempt.Port)
		}
		if got != want {
			t.Errorf("%q: %q", request, got)
		}
	}
}

func TestBurstWaitsForStreamsAndAsksForThem(t *testing.T) {
	o := attached(t)
	redirectTo(o.d, "203.0.113.7:443")
	const burst = 200
	var clients sync.WaitGroup
	for range burst {
		clients.Add(1)
		go func() {
			defer clients.Done()
			code, err := net.Dial("tcp", o.d.address("redirect"))
			if err != nil {
				t.Error(err)
				return
			}
			defer code.Close()
			if echo, _ := io.ReadAll(code); string(echo) != "done" {
				t.Errorf("%q", echo)
			}
		}()
	}
	for served := 0; served < burst; {
		said := o.line()
		if said.Op != "need" || said.Streams < 1 || said.Streams > burst {
			t.Fatalf("%+v", said)
		}
		for range min(said.Streams, burst-served) {
			stream := o.park()
			readHead(t, stream)
			sendVerdict(t, stream, `{"ok":true}`)
			mustSay(t, stream, "done")
			_ = stream.Close()
			served++
		}
	}
	clients.Wait()
}

func TestControlStreamThatEndsTakesItsParkedStreamsAlong(t *testing.T) {
	o := attached(t)
	first, second := o.park(), o.park()
	_ = o.control.Close()
	mustEnd(t, first)
	mustEnd(t, second)
	inner, _ := streams(t)
	for o.d.Attached() {
	}
	if o.d.Park(inner) == nil || o.d.MayPark() == nil {
		t.Fatal("parked for nobody")
	}
}

func TestNewControlStreamReplacesTheOldOne(t *testing.T) {
	d := openDoor(t)
	old := attach(t, d)
	parked := old.park()
	o := attach(t, d)
	mustEnd(t, parked)
	mustEnd(t, old.control)
	o.answerLookups("yes")
	if d.verdict("example.com") != "yes" {
		t.Fatal("the new one is not asked")
	}
}

func TestWhoWaitsIsServedByTheNextDoor(t *testing.T) {
	d := openDoor(t)
	redirectTo(d, "203.0.113.7:443")
	dial(t, d, "redirect")
	o := attach(t, d)
	if said := o.line(); said.Op != "need" || said.Streams != 1 {
		t.Fatalf("%+v", said)
	}
	readHead(t, o.park())
}

func TestParkedStreamsThatDiedArePassedOver(t *testing.T) {
	o := attached(t)
	redirectTo(o.d, "203.0.113.7:443")
	alive := o.park()
	for range 5 {
		_ = o.park().Close()
	}
	dial(t, o.d, "redirect")
	readHead(t, alive)
}

func TestTooManyParkedStreamsAreRefused(t *testing.T) {
	o := attached(t)
	for range maxParked {
		o.park()
	}
	inner, _ := streams(t)
	defer inner.Close()
	if o.d.MayPark() != errFull || o.d.Park(inner) != errFull {
		t.Fatal("one too many")
	}
}

func TestTooManyConnectionsAreReset(t *testing.T) {
	d := openDoor(t)
	for range maxOpen {
		d.enter()
	}
	mustBeReset(t, d, "socks")
}

func TestLinesOfTheDoorAreBounded(t *testing.T) {
	d := openDoor(t)
	for _, bad := range []string{strings.Repeat("x", 2*maxLine), "{\"op\":", "[]"} {
		o := attach(t, d)
		_, _ = o.control.Write([]byte(bad + "\n"))
		mustBreak(t, o.control)
	}
	o := attach(t, d)
	o.say(`{"op":"something newer","id":3,"what":{}}`)
	o.say(`{"op":"resolved","id":99,"verdict":"yes"}`)
	address := d.names.address("example.com").String()
	for _, asked := range []string{address, "198.18.0.1", "not an address", "::1"} {
		o.say(`{"op":"name","id":7,"address":"` + asked + `"}`)
		said := o.line()
		if said.Op != "named" || said.ID != 7 || (said.Name != nil) != (asked == address) {
			t.Fatalf("%s: %+v", asked, said)
		}
	}
}

func TestAllBytesArriveInBothDirections(t *testing.T) {
	o := attached(t)
	stream, code := o.redirected("203.0.113.7:443")
	readHead(t, stream)
	sendVerdict(t, stream, `{"ok":true}`)
	const size = 32 << 20
	go func() { _, _ = io.Copy(stream, stream); _ = stream.CloseWrite() }()
	go func() {
		_, _ = io.CopyN(code, zeros{}, size)
		_ = code.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, code); n != size || err != nil {
		t.Fatal(n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func BenchmarkOneConnection(b *testing.B) {
	d := New(Config{DiagFD: -1})
	defer d.Close()
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	defer listener.Close()
	t := &testing.T{}
	inner, host := streams(t)
	go func() {
		code, _ := listener.Accept()
		_ = carry(code.(*net.TCPConn), inner)
		code.Close()
	}()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	block := make([]byte, 256<<10)
	b.SetBytes(int64(len(block)))
	go func() {
		for range b.N {
			_, _ = host.Write(block)
		}
		_ = host.Close()
	}()
	b.ResetTimer()
	if n, err := io.Copy(io.Discard, client); n != int64(b.N)*int64(len(block)) {
		b.Fatal(n, err)
	}
}
