package box

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
	"syscall"
)

// The saved disk is a sequence of records: u32 (big-endian) length, JSON header, then the bytes of its extents. It is
// our own format because it must keep holes: a sparse file of a terabyte costs nothing in the box and may not fill
// the host.
const (
	kindDir      = "dir"
	kindFile     = "file"
	kindLink     = "link"
	kindHard     = "hard"
	kindFifo     = "fifo"
	kindWhiteout = "whiteout"
	kindEnd      = "end"

	maxHeader = 1 << 20
	maxDepth  = 1000
)

type record struct {
	Kind    string            `json:"kind"`
	Path    []byte            `json:"path"`
	Mode    uint32            `json:"mode"`
	UID     int               `json:"uid"`
	GID     int               `json:"gid"`
	MtimeNs int64             `json:"mtime_ns"`
	Target  []byte            `json:"target,omitempty"`
	Xattrs  map[string][]byte `json:"xattrs,omitempty"`
	Size    int64             `json:"size,omitempty"`
	Extents [][2]int64        `json:"extents,omitempty"`
}

func (r *record) bytes() int64 {
	total := int64(0)
	for _, extent := range r.Extents {
		total += extent[1]
	}
	return total
}

func writeRecord(out io.Writer, r *record) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(body) > maxHeader {
		return syscall.ENAMETOOLONG
	}
	if err := binary.Write(out, binary.BigEndian, uint32(len(body))); err != nil {
		return err
	}
	_, err = out.Write(body)
	return err
}

func readRecord(in *bufio.Reader) (*record, error) {
	var length uint32
	if err := binary.Read(in, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	if length > maxHeader {
		return nil, syscall.EBADMSG
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, err
	}
	r := &record{}
	return r, json.Unmarshal(body, r)
}
