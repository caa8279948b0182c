package door

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"time"
)

const maxHead = 4096

// head is the first thing on a parked stream, when it is used.
type head struct {
	Kind    string `json:"kind"`
	Host    string `json:"host,omitempty"`
	Port    int    `json:"port,omitempty"`
	Via     string `json:"via,omitempty"`
	Pid     int    `json:"pid,omitempty"`
	Process string `json:"process,omitempty"`
}

// verdict is the first thing that comes back.
type verdict struct {
	OK      bool   `json:"ok"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (h *head) encoded() ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(body) > maxHead {
		return nil, errors.New("the head of a connection is too long")
	}
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...), nil
}

// begin takes a stream and says on it where to. A stream whose other end has closed while it lay here takes no bytes:
// then the next one is tried.
func (d *Door) begin(h *head) (Stream, error) {
	message, err := h.encoded()
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(waitStream)
	for {
		stream, err := d.parked.take(time.Until(deadline))
		if err != nil {
			return nil, err
		}
		_ = stream.SetWriteDeadline(time.Now().Add(waitStream))
		if _, err = stream.Write(message); err == nil {
			return stream, stream.SetWriteDeadline(time.Time{})
		}
		_ = stream.Close()
	}
}

// readVerdict reads no byte more than the answer.
func readVerdict(stream net.Conn) (v verdict, err error) {
	var size [4]byte
	if _, err = io.ReadFull(stream, size[:]); err != nil {
		return v, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxHead {
		return v, errors.New("the door's answer is too long")
	}
	body := make([]byte, n)
	if _, err = io.ReadFull(stream, body); err != nil {
		return v, err
	}
	return v, json.Unmarshal(body, &v)
}
