package box

import (
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	consoleKept   = 16 << 10
	consoleInExit = 4 << 10
	consoleAtOnce = 16 << 10
	// with consoleAtOnce, at most 256 KiB a second: a program that says more waits, and costs no more than that
	consoleRest = 62500 * time.Microsecond
	// more than a socket holds
	consoleLeft = 1 << 20
)

// console is the supervisor's end of what the plan's program says. The program is taken for hostile: it is read without
// waiting, seldom, and only its newest words are kept.
type console struct {
	fd    int // -1 once the program has closed its end
	kept  []byte
	rests time.Time // it is left unread until then
}

// due tells whether it may be read now, and if not in how many milliseconds; -1 for never.
func (c *console) due() (bool, int64) {
	if c == nil || c.fd < 0 {
		return false, -1
	}
	wait := time.Until(c.rests)
	if wait <= 0 {
		return true, -1
	}
	return false, wait.Milliseconds() + 1
}

// read takes one portion of what waits, and then a rest.
func (c *console) read() {
	c.take()
	c.rests = time.Now().Add(consoleRest)
}

// take returns how much there was.
func (c *console) take() int {
	if c.fd < 0 {
		return 0
	}
	var buf [consoleAtOnce]byte
	n, err := unbroken(func() (int, error) {
		n, _, err := syscall.Recvfrom(c.fd, buf[:], syscall.MSG_DONTWAIT)
		return n, err
	})
	if err == syscall.EAGAIN {
		return 0
	}
	if err != nil || n <= 0 {
		_ = syscall.Close(c.fd)
		c.fd = -1
		return 0
	}
	c.keep(buf[:n])
	return n
}

// drain reads what a program that has ended left behind.
func (c *console) drain() {
	for taken := 0; taken < consoleLeft; {
		n := c.take()
		if n == 0 {
			return
		}
		taken += n
	}
}

func (c *console) keep(said []byte) {
	c.kept = append(c.kept, said...)
	if over := len(c.kept) - consoleKept; over > 0 {
		c.kept = append(c.kept[:0], c.kept[over:]...)
	}
}

// last is the newest of it, at most that many bytes as they came, made harmless.
func (c *console) last(most int) string {
	kept := c.kept[max(0, len(c.kept)-most):]
	if len(kept) < len(c.kept) {
		// it may begin within a character
		for i := 0; i < utf8.UTFMax-1 && len(kept) > 0 && !utf8.RuneStart(kept[0]); i++ {
			kept = kept[1:]
		}
	}
	said := strings.ReplaceAll(string(kept), "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return utf8.RuneError
		}
		return r
	}, said)
}
