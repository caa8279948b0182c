package procs

import (
	"crypto/rand"
	"time"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// newID is "p_" and 26 characters: 48 bits of milliseconds, 80 random bits, in Crockford's base 32.
func newID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[6:])
	for i, ms := 5, uint64(time.Now().UnixMilli()); i >= 0; i, ms = i-1, ms>>8 {
		raw[i] = byte(ms)
	}
	out := make([]byte, 28)
	copy(out, "p_")
	bits, have, next := uint(0), uint(2), 0 // 128 bits are 26 digits with two leading zero bits
	for i := 2; i < 28; i++ {
		for have < 5 {
			bits = bits<<8 | uint(raw[next])
			next, have = next+1, have+8
		}
		have -= 5
		out[i] = crockford[bits>>have&31]
	}
	return string(out)
}
