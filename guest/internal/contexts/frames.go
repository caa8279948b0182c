// Package contexts keeps interpreters that keep their state, runs code in them one piece after the other, and tells
// what each piece said as numbered events. What comes from an interpreter is hostile: it is bounded and parsed here.
package contexts

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// Kinds of frames that a program sends. A frame is its kind, a u32 length and the payload, big-endian.
const (
	frameReady   = 'R' // fields: version
	frameStdout  = 'o'
	frameStderr  = 'e'
	frameDisplay = 'd' // fields: metadata, left out, then type and representation in turn
	frameValue   = 'v'
	frameError   = 'x' // fields: name, message, traceback
	frameSync    = 's' // asks for one frame back when all before it is told
	frameIgnored = 'i' // an interrupt came while no code ran
	frameDone    = 'D' // text: number, status
)

// Kinds of frames that a program is sent.
const (
	frameCode  = 'C' // u32 number, the code
	frameEnv   = 'E' // NUL between "NAME=value" or, for what is to go, "NAME"
	frameDir   = 'W'
	frameAgain = 'A' // the answer to frameSync
)

const (
	frameHeader = 5
	maxText     = 256 << 10
	maxBundle   = 20 << 20
	maxProblem  = 4 << 20
)

var frameLimits = map[byte]int{
	frameReady: 4096, frameStdout: maxText, frameStderr: maxText, frameDisplay: maxBundle, frameValue: maxBundle,
	frameError: maxProblem, frameSync: 0, frameIgnored: 0, frameDone: 64,
}

// partial is what all parsers hold of frames that have not come to their end; maxPartial is more than honest programs
// ever have, as they write a frame at once.
var partial atomic.Int64

const maxPartial = 8 * maxBundle

// parser cuts a stream into frames, however it arrives.
type parser struct {
	rest    []byte
	counted int
}

// count keeps partial right. It returns false when there is too much of it: the frame at hand will not be waited for.
func (p *parser) count() bool {
	more := len(p.rest) - p.counted
	p.counted = len(p.rest)
	return partial.Add(int64(more)) <= maxPartial || more <= 0
}

// forget drops what it holds.
func (p *parser) forget() {
	p.rest = nil
	p.count()
}

// feed calls handle for each frame that data completes. The payload is only borrowed. An error is final.
func (p *parser) feed(data []byte, handle func(kind byte, payload []byte)) error {
	if len(p.rest) > 0 {
		p.rest = append(p.rest, data...)
		data = p.rest
	}
	used := 0
	for len(data)-used >= frameHeader {
		head := data[used:]
		size := int(binary.BigEndian.Uint32(head[1:]))
		limit, known := frameLimits[head[0]]
		if !known || size > limit {
			return fmt.Errorf("a frame of kind %d with %d bytes", head[0], size)
		}
		if len(head) < frameHeader+size {
			break
		}
		handle(head[0], head[frameHeader:frameHeader+size])
		used += frameHeader + size
	}
	if used > 0 || len(p.rest) == 0 {
		p.rest = append([]byte(nil), data[used:]...)
	}
	if !p.count() {
		return fmt.Errorf("too much of frames without an end")
	}
	return nil
}

// fields splits a payload of u32 lengths and bytes; nil when it is none.
func fields(payload []byte, most int) [][]byte {
	found := [][]byte{}
	for len(payload) > 0 {
		if len(payload) < 4 || len(found) == most {
			return nil
		}
		size := int(binary.BigEndian.Uint32(payload))
		if payload = payload[4:]; size > len(payload) {
			return nil
		}
		found, payload = append(found, payload[:size]), payload[size:]
	}
	return found
}

// readDone takes "3 ok" or "3 exit 1" apart.
func readDone(payload []byte) (number int, status, detail string) {
	first, rest, _ := strings.Cut(string(payload), " ")
	number, _ = strconv.Atoi(first)
	status, detail, _ = strings.Cut(rest, " ")
	return number, status, detail
}

func frame(kind byte, payload []byte) []byte {
	out := make([]byte, frameHeader, frameHeader+len(payload))
	out[0] = kind
	binary.BigEndian.PutUint32(out[1:], uint32(len(payload)))
	return append(out, payload...)
}
