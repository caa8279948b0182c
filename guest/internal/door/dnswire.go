package door

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
)

// What DNS (RFC 1035, 6891) calls them.
const (
	typeA, typePTR, typeAAAA, typeOPT           = 1, 12, 28, 41
	typeSVCB, typeHTTPS                         = 64, 65
	typeIXFR, typeAXFR, typeMAILB, typeANY      = 251, 252, 253, 255
	classIN                                     = 1
	noError, formErr, servFail, nxDomain        = 0, 1, 2, 3
	notImp, refused, badVersion                 = 4, 5, 16
	headerBytes                                 = 12
	flagAnswer, flagCut, flagWanted, flagHelped = 0x8000, 0x0200, 0x0100, 0x0080
	namePointer                                 = 0xc00c // to the question's name
	ttl                                         = 60
	leastPacket, mostPacket                     = 512, 4096
	ownPacket                                   = 1232
	maxMore                                     = 4 // records after the question
)

var errDNS = errors.New("this is no DNS query")

// query is one question. `name` is in lower case without the last dot; "" for the root, and for one that is no host's name,
// which `odd` tells apart.
type query struct {
	id, flags, kind, class uint16
	question               []byte // as it was asked
	name                   string
	odd                    bool
	edns                   bool
	version                byte
	packet                 int // the largest answer that the asker takes over UDP
}

// parseQuery: an error with a query in it is to be answered with formErr, one without is not to be answered at all.
func parseQuery(message []byte) (*query, error) {
	if len(message) < headerBytes {
		return nil, errDNS
	}
	q := &query{id: u16(message), flags: u16(message[2:]), packet: leastPacket}
	if q.flags&flagAnswer != 0 {
		return nil, errDNS
	}
	if u16(message[4:]) != 1 || u16(message[6:]) != 0 || u16(message[8:]) != 0 || u16(message[10:]) > maxMore {
		return q, errDNS
	}
	end, err := q.readQuestion(message)
	if err != nil {
		return q, err
	}
	return q, q.readMore(message[end:], int(u16(message[10:])))
}

func u16(raw []byte) uint16 { return binary.BigEndian.Uint16(raw) }

func (q *query) opcode() uint16 { return q.flags >> 11 & 15 }

func (q *query) readQuestion(message []byte) (end int, err error) {
	labels, end, err := readName(message, headerBytes)
	if err != nil || len(message) < end+4 {
		return 0, errDNS
	}
	q.kind, q.class = u16(message[end:]), u16(message[end+2:])
	q.question = message[headerBytes : end+4]
	if len(labels) > 0 {
		var ok bool
		q.name, ok = cleanLabels(labels)
		q.odd = !ok
	}
	return end + 4, nil
}

// cleanLabels: a dot within a label would make another name of it.
func cleanLabels(labels []string) (string, bool) {
	for _, label := range labels {
		if strings.Contains(label, ".") {
			return "", false
		}
	}
	return cleanName(strings.Join(labels, "."))
}

// readName reads a name that is not compressed: before the first name there is nothing that a pointer could mean.
func readName(message []byte, at int) (labels []string, end int, err error) {
	for total := 1; at < len(message); {
		size := int(message[at])
		at++
		if size == 0 {
			return labels, at, nil
		}
		if total += size + 1; size > maxLabel || total > 255 || at+size > len(message) {
			return nil, 0, errDNS
		}
		labels = append(labels, string(message[at:at+size]))
		at += size
	}
	return nil, 0, errDNS
}

// readMore looks for EDNS among the records after the question.
func (q *query) readMore(rest []byte, count int) error {
	for range count {
		size, err := skipName(rest)
		if err != nil || len(rest) < size+10 {
			return errDNS
		}
		fields := rest[size:]
		data := 10 + int(u16(fields[8:]))
		if len(fields) < data {
			return errDNS
		}
		if u16(fields) == typeOPT {
			if q.edns || size != 1 {
				return errDNS
			}
			q.edns, q.version = true, fields[5]
			q.packet = min(max(int(u16(fields[2:])), leastPacket), mostPacket)
		}
		rest = fields[data:]
	}
	return nil
}

// skipName passes over a name whose end may be a pointer, which nobody follows.
func skipName(raw []byte) (size int, err error) {
	for size < len(raw) {
		label := int(raw[size])
		switch {
		case label == 0:
			return size + 1, nil
		case label >= 0xc0:
			return size + 2, nil
		case label > maxLabel:
			return 0, errDNS
		}
		size += label + 1
	}
	return 0, errDNS
}

// record is what an answer says of the question's name.
type record struct {
	kind uint16
	data []byte
}

func addressRecord(address netip.Addr) record {
	if address.Is4() {
		return record{typeA, address.AsSlice()}
	}
	return record{typeAAAA, address.AsSlice()}
}

func nameRecord(name string) record {
	data := make([]byte, 0, len(name)+2)
	for _, label := range strings.Split(name, ".") {
		data = append(append(data, byte(len(label))), label...)
	}
	return record{typePTR, append(data, 0)}
}

// answer is the whole message.
func (q *query) answer(code int, records ...record) []byte {
	flags := flagAnswer | q.flags&0x7800 | q.flags&flagWanted | flagHelped | uint16(code&15)
	message := q.header(flags, len(records))
	for _, r := range records {
		message = binary.BigEndian.AppendUint16(message, namePointer)
		message = binary.BigEndian.AppendUint16(message, r.kind)
		message = binary.BigEndian.AppendUint16(message, classIN)
		message = binary.BigEndian.AppendUint32(message, ttl)
		message = binary.BigEndian.AppendUint16(message, uint16(len(r.data)))
		message = append(message, r.data...)
	}
	return q.appendEDNS(message, code)
}

func (q *query) header(flags uint16, answers int) []byte {
	questions, more := 0, 0
	if q.question != nil {
		questions = 1
	}
	if q.edns {
		more = 1
	}
	message := make([]byte, 0, headerBytes+len(q.question)+answers*32+11)
	for _, field := range []uint16{q.id, flags, uint16(questions), uint16(answers), 0, uint16(more)} {
		message = binary.BigEndian.AppendUint16(message, field)
	}
	return append(message, q.question...)
}

func (q *query) appendEDNS(message []byte, code int) []byte {
	if !q.edns {
		return message
	}
	message = append(message, 0, 0, typeOPT)
	message = binary.BigEndian.AppendUint16(message, ownPacket)
	return append(message, byte(code>>4), 0, 0, 0, 0, 0)
}

// cut is what goes over UDP instead of an answer that is too large: the asker comes again over TCP.
func (q *query) cut() []byte {
	flags := flagAnswer | flagCut | q.flags&0x7800 | q.flags&flagWanted | flagHelped
	return q.appendEDNS(q.header(flags, 0), noError)
}
