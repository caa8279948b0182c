package contexts

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// Reseed gives every interpreter's generators new seeds, after the memory that they are in was copied. It comes before
// whatever an interpreter does next; see the languages for what that holds for code that is running.
func (m *Manager) Reseed() {
	for _, c := range m.All() {
		c.mu.Lock()
		if l := c.link; l != nil && c.state != "ended" {
			c.language.reseed(l)
		}
		c.mu.Unlock()
	}
}

// reseedBySignal is for a program that handles SIGURG: also between two lines of code that runs. By default the signal
// does nothing, so it harms no program that the code may have put in the place of its interpreter.
func reseedBySignal(l *link) { l.process.Nudge() }

// reseedBash reaches a shell with what it reads next. SRANDOM and /dev/urandom are the kernel's and need nothing.
func reseedBash(l *link) {
	var seed [4]byte
	_, _ = rand.Read(seed[:])
	l.send([]byte(fmt.Sprintf("RANDOM=%d\n", binary.BigEndian.Uint32(seed[:])>>1)))
}

// reseedNothing: V8 has no way to seed Math.random anew, and Node none to stir the generator of its OpenSSL.
func reseedNothing(*link) {}
