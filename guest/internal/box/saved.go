package box

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"syscall"
)

// The saved disk is a walk of the tree: records of u32 (big-endian) length and JSON, a data record followed by its bytes.
// "dir" enters the directory that it makes and "up" leaves it, so a record holds one name and never a path: paths would
// let a deep tree of small files grow to the square of its size on the host. It is our own format because it must keep
// holes: a sparse file of a terabyte costs nothing in the box and may not fill the host.
const (
	kindDir      = "dir"
	kindUp       = "up"
	kindFile     = "file"
	kindData     = "data"
	kindLink     = "link"
	kindHard     = "hard"
	kindFifo     = "fifo"
	kindWhiteout = "whiteout"
	kindEnd      = "end"

	maxHeader = 1 << 20
	maxXattrs = 256 << 10
)

// record: Link numbers a file that has several names, 0 for all others; a "hard" record is one more name of that number.
type record struct {
	Kind    string            `json:"kind"`
	Name    []byte            `json:"name,omitempty"`
	Mode    uint32            `json:"mode,omitempty"`
	UID     int               `json:"uid,omitempty"`
	GID     int               `json:"gid,omitempty"`
	MtimeNs int64             `json:"mtime_ns,omitempty"`
	Target  []byte            `json:"target,omitempty"`
	Xattrs  map[string][]byte `json:"xattrs,omitempty"`
	Size    int64             `json:"size,omitempty"`
	Link    int               `json:"link,omitempty"`
	Offset  int64             `json:"offset,omitempty"`
	Length  int64             `json:"length,omitempty"`
}

// named tells whether the record may make something of its name in the directory that is being filled.
func (r *record) named() bool {
	name := string(r.Name)
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
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
