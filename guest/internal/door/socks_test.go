package door

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

const greeting, reply = "\x05\x01\x00", "\x00\x01\x00\x00\x00\x00\x00\x00"

func TestSOCKSConnectsByNameAndAddress(t *testing.T) {
	for request, host := range map[string]string{
		"\x05\x01\x00\x03\x0bExample.com\x01\xbb":                       "example.com",
		"\x05\x01\x00\x01\xcb\x00\x71\x07\x01\xbb":                      "203.0.113.7",
		"\x05\x01\x00\x04" + strings.Repeat("\x20\x01", 8) + "\x01\xbb": "2001:2001:2001:2001:2001:2001:2001:2001",
		"\x05\x01\x00\x03\x0b203.0.113.7\x01\xbb":                       "203.0.113.7",
	} {
		d := openDoor(t)
		o := attach(t, d)
		stream := o.park()
		code := dial(t, d, "socks")
		mustSay(t, code, greeting)
		mustRead(t, code, "\x05\x00")
		mustSay(t, code, request)
		if h := readHead(t, stream); h.Kind != "connect" || h.Host != host || h.Port != 443 || h.Via != "socks" {
			t.Fatalf("%+v", h)
		}
		sendVerdict(t, stream, `{"ok":true}`)
		mustRead(t, code, "\x05\x00"+reply)
		mustSay(t, code, "ping")
		mustRead(t, stream, "ping")
		mustSay(t, stream, "pong")
		_ = stream.CloseWrite()
		mustRead(t, code, "pong")
		mustEnd(t, code)
	}
}

func TestSOCKSTellsWhyNot(t *testing.T) {
	for answer, want := range map[string]string{`{"ok":false,"code":"denied"}`: "\x02", `{"ok":false,"code":"failed"}`: "\x05",
		`{"ok":false,"code":"limit"}`: "\x04", `nonsense`: "\x01"} {
		d := openDoor(t)
		o := attach(t, d)
		stream := o.park()
		code := dial(t, d, "socks")
		mustSay(t, code, greeting+"\x05\x01\x00\x03\x03a.b\x00\x50")
		readHead(t, stream)
		sendVerdict(t, stream, answer)
		mustRead(t, code, "\x05\x00\x05"+want+reply)
		mustEnd(t, code)
	}
}

func TestSOCKSRefusesByItself(t *testing.T) {
	for request, want := range map[string]string{
		greeting + "\x05\x02\x00\x03\x03a.b\x00\x50":          "\x05\x00\x05\x07" + reply, // BIND
		greeting + "\x05\x01\x00\x09\x03a.b\x00\x50":          "\x05\x00\x05\x08" + reply,
		greeting + "\x05\x01\x00\x03\x03a b\x00\x50":          "\x05\x00\x05\x04" + reply,
		greeting + "\x05\x01\x00\x03\x00\x00\x50":             "\x05\x00\x05\x04" + reply,
		greeting + "\x05\x01\x00\x03\x03a.b\x00\x00":          "\x05\x00\x05\x04" + reply,
		greeting + "\x05\x01\x00\x01\xc6\x12\x00\x63\x00\x50": "\x05\x00\x05\x02" + reply, // never given out
		"\x05\x01\x02": "\x05\xff", "\x04\x01\x00\x50": "", "GET / HTTP/1.1\r\n\r\n": "",
	} {
		d := openDoor(t)
		code := dial(t, d, "socks")
		mustSay(t, code, request)
		_ = code.CloseWrite()
		var got bytes.Buffer
		_, _ = io.Copy(&got, code) // it may end by a reset when something was left unread
		if got.String() != want {
			t.Errorf("%q: %q", request, got.String())
		}
	}
}

func TestSOCKSOfAClosedSandboxRemembers(t *testing.T) {
	d := newDoor(t)
	code := dial(t, d, "socks")
	mustSay(t, code, greeting+"\x05\x01\x00\x03\x0bexample.com\x00\x16")
	mustRead(t, code, "\x05\x00\x05\x02"+reply)
	if all := d.Attempts(); len(all) != 1 || all[0].Host != "example.com" || all[0].Port != 22 {
		t.Fatalf("%+v", all)
	}
}

type script struct {
	io.Reader
	said bytes.Buffer
}

func (s *script) Write(p []byte) (int, error) { return s.said.Write(p) }

func FuzzSOCKS(f *testing.F) {
	f.Add([]byte(greeting + "\x05\x01\x00\x03\x0bExample.com\x01\xbb"))
	f.Add([]byte(greeting + "\x05\x01\x00\x04" + strings.Repeat("\x20\x01", 8) + "\x01\xbb"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &script{Reader: bytes.NewReader(data)}
		host, port, err := socksHandshake(s)
		if err == nil {
			if clean, ok := cleanHost(host); !ok || clean != host || port < 1 || port > 65535 {
				t.Fatalf("%q %d", host, port)
			}
		}
		if s.said.Len() > 2 {
			t.Fatalf("%x", s.said.Bytes())
		}
	})
}

func FuzzRequestLine(f *testing.F) {
	f.Add("CONNECT example.com:443 HTTP/1.1")
	f.Add("GET http://[2001:db8::1]:80/ HTTP/1.1")
	f.Fuzz(func(t *testing.T, line string) {
		if host, port, ok := proxied(line); ok {
			if clean, fine := cleanHost(host); !fine || clean != host || port < 1 || port > 65535 {
				t.Fatalf("%q %d", host, port)
			}
		}
	})
}
