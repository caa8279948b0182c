package box

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
)

func newConsole(t *testing.T) (*console, int) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = syscall.Close(pair[0]), syscall.Close(pair[1]) })
	return &console{fd: pair[0]}, pair[1]
}

func TestTheNewestIsKeptAndAFloodIsLeftUnread(t *testing.T) {
	c, program := newConsole(t)
	if due, _ := c.due(); !due {
		t.Fatal("it is not read at all")
	}
	flood := func() (said int) {
		for i := 0; ; i++ {
			n, err := syscall.Write(program, bytes.Repeat([]byte{byte('a' + i%26)}, 4096))
			if err != nil {
				return said
			}
			said += n
		}
	}
	said := flood()
	c.read()
	if due, rest := c.due(); due || rest < 0 {
		t.Error("it is read again at once")
	}
	if again := flood(); again > 2*consoleAtOnce {
		t.Errorf("the first look read %d bytes", again)
	}
	c.drain()
	if len(c.kept) != consoleKept || said < consoleKept || cap(c.kept) > 4*consoleKept {
		t.Error(len(c.kept), said, cap(c.kept))
	}
	_, _ = syscall.Write(program, []byte("the last words"))
	c.drain()
	if !strings.HasSuffix(c.last(consoleInExit), "the last words") || len(c.last(consoleInExit)) != consoleInExit {
		t.Error(c.last(64))
	}
}

func TestAConsoleThatIsClosedIsNeverDue(t *testing.T) {
	c, program := newConsole(t)
	_, _ = syscall.Write(program, []byte("bye"))
	_ = syscall.Shutdown(program, syscall.SHUT_RDWR)
	c.read()
	c.read()
	if due, rest := c.due(); due || rest != -1 || c.fd != -1 || c.last(10) != "bye" {
		t.Error(due, rest, c.fd, c.last(10))
	}
	c.read()
	c.drain()
	var none *console
	if due, rest := none.due(); due || rest != -1 {
		t.Error("a box without a program has none")
	}
}

func TestWordsAreMadeHarmless(t *testing.T) {
	cases := map[string]string{
		"plain\tand\nlines\r\n": "plain\tand\nlines\n",
		"\x1b[31mred\x00\x7f":   "\ufffd[31mred\ufffd\ufffd",
		"\xff\xfe":              "\ufffd\ufffd",
		"\u009b2J ö":            "\ufffd2J ö",
		"a\rb":                  "a\ufffdb",
	}
	for said, want := range cases {
		c := &console{kept: []byte(said)}
		if got := c.last(consoleKept); got != want {
			t.Errorf("%q: %q", said, got)
		}
	}
	c := &console{kept: []byte("öööö")}
	if got := c.last(3); got != "ö" || !utf8.ValidString(got) {
		t.Errorf("%q", got)
	}
}

func TestTheSoonerOfTwoTimes(t *testing.T) {
	for _, c := range [][3]int64{{-1, -1, -1}, {-1, 5, 5}, {5, -1, 5}, {3, 5, 3}, {0, 5, 0}} {
		if sooner(c[0], c[1]) != c[2] {
			t.Error(c)
		}
	}
}
