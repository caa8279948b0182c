package wire

import "encoding/binary"

// Kinds of frames.
const (
	FrameStarted   = 1
	FrameStdout    = 2
	FrameStderr    = 3
	FrameGap       = 4
	FrameExited    = 5
	FrameKeepalive = 6
)

// FrameHeader is the size of a header, MaxPayload the largest payload, in bytes.
const (
	FrameHeader = 16
	MaxPayload  = 256 << 10
)

// PutHeader writes a frame's header into the first 16 bytes of dst.
func PutHeader(dst []byte, kind byte, length int, offset uint64) {
	binary.BigEndian.PutUint32(dst[0:4], uint32(kind)<<24)
	binary.BigEndian.PutUint32(dst[4:8], uint32(length))
	binary.BigEndian.PutUint64(dst[8:16], offset)
}

// Frame returns a whole frame.
func Frame(kind byte, offset uint64, payload []byte) []byte {
	out := make([]byte, FrameHeader+len(payload))
	PutHeader(out, kind, len(payload), offset)
	copy(out[FrameHeader:], payload)
	return out
}

// Gap returns a GAP frame: `lost` bytes of `stream` are gone, the next available byte is at `offset`.
func Gap(stream byte, lost, offset uint64) []byte {
	payload := make([]byte, 9)
	payload[0] = stream
	binary.BigEndian.PutUint64(payload[1:], lost)
	return Frame(FrameGap, offset, payload)
}
