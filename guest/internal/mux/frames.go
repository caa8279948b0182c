// Package mux carries many streams over one byte pipe, a virtio port, for whoever connects to its other end: the guest's
// side of the multiplexer of guest/README.md.
//
// It will run under an emulated processor, so it counts instructions: one goroutine reads and hands frames to streams
// without another in between, one writes whatever has gathered since it wrote last, and buffers are used again.
package mux

import (
	"bytes"
	"encoding/binary"
)

const (
	hello  = "CLOCHE-MUX/1\r\n\x00\x00"
	answer = "cloche-mux/1\r\n\x00\x00"

	epochBytes  = 16
	headerBytes = 16
	tagBytes    = 4
	maxPayload  = 65_536
	firstWindow = 256 << 10
	maxWindow   = 1<<32 - 1
	maxStreams  = 1024
)

type kind byte

const (
	open kind = iota + 1
	data
	window
	fin
	reset
	ping
	pong
)

const (
	cancelled = iota
	refused
	protocol
)

func appendFrame(to []byte, k kind, stream, value, tag uint32) []byte {
	to = append(to, byte(k), 0, 0, 0)
	to = binary.BigEndian.AppendUint32(to, stream)
	to = binary.BigEndian.AppendUint32(to, value)
	return binary.BigEndian.AppendUint32(to, tag)
}

// frame is what a decoder found. Its payload is valid until the decoder's next space.
type frame struct {
	kind          kind
	stream, value uint32
	payload       []byte
}

type verdict int

const (
	incomplete verdict = iota // more bytes are needed
	whole
	begun  // a hello: an epoch begins
	broken // no frame of this epoch: only a hello helps
)

// readSpace is how much a read may bring at least.
const readSpace = 64 << 10

// decoder finds hellos and frames in what the port brings, wherever that is cut.
type decoder struct {
	buf        []byte
	start, end int
	inEpoch    bool
	epoch      [epochBytes]byte
	tag        uint32
}

func newDecoder() decoder { return decoder{buf: make([]byte, 4*readSpace)} }

// space is where the next bytes go; tell how many came with added.
func (d *decoder) space() []byte {
	if d.start == d.end {
		d.start, d.end = 0, 0
	}
	if len(d.buf)-d.end < readSpace {
		d.end = copy(d.buf, d.buf[d.start:d.end])
		d.start = 0
	}
	return d.buf[d.end:]
}

func (d *decoder) added(count int) { d.end += count }

// forget drops what has come: it was said by a host that is gone.
func (d *decoder) forget() { d.start, d.end, d.inEpoch = 0, 0, false }

func (d *decoder) next() (frame, verdict) {
	if !d.inEpoch {
		return frame{}, d.scan()
	}
	b := d.buf[d.start:d.end]
	if len(b) < headerBytes {
		return frame{}, incomplete
	}
	word := binary.BigEndian.Uint32(b)
	f := frame{kind: kind(word >> 24), stream: binary.BigEndian.Uint32(b[4:]), value: binary.BigEndian.Uint32(b[8:])}
	if word<<8 != 0 || f.kind < open || f.kind > pong || binary.BigEndian.Uint32(b[12:]) != d.tag {
		return f, d.broke()
	}
	if f.kind != data {
		d.start += headerBytes
		return f, whole
	}
	if f.value == 0 || f.value > maxPayload {
		return f, d.broke()
	}
	total := headerBytes + int(f.value) + tagBytes
	if len(b) < total {
		return f, incomplete
	}
	d.start += total // nothing of a broken payload is looked at again
	if binary.BigEndian.Uint32(b[total-tagBytes:]) != d.tag {
		return f, d.broke()
	}
	f.payload = b[headerBytes : total-tagBytes]
	return f, whole
}

func (d *decoder) broke() verdict {
	d.inEpoch = false
	return broken
}

func (d *decoder) scan() verdict {
	b := d.buf[d.start:d.end]
	at := bytes.Index(b, []byte(hello))
	if at < 0 {
		d.start = max(d.start, d.end-len(hello)+1)
		return incomplete
	}
	d.start += at
	if len(b)-at < len(hello)+epochBytes {
		return incomplete
	}
	copy(d.epoch[:], b[at+len(hello):])
	d.start += len(hello) + epochBytes
	d.inEpoch, d.tag = true, binary.BigEndian.Uint32(d.epoch[:])
	return begun
}
