package redirect

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

const (
	nested       = 0x8000 // NLA_F_NESTED
	headerBytes  = 16
	answerBytes  = 4096
	noRoomForOne = headerBytes + 4
)

// batch is what one send brings to the kernel: netlink messages, one behind the other. Numbers are in the machine's own
// order, but for those of nf_tables.
type batch struct {
	bytes    []byte
	sequence uint32
}

// message appends one, and returns its number.
func (b *batch) message(kind, flags uint16, head []byte, fill func(*batch)) uint32 {
	start := len(b.bytes)
	b.sequence++
	b.bytes = binary.NativeEndian.AppendUint32(b.bytes, 0)
	b.bytes = binary.NativeEndian.AppendUint16(b.bytes, kind)
	b.bytes = binary.NativeEndian.AppendUint16(b.bytes, flags|syscall.NLM_F_REQUEST)
	b.bytes = binary.NativeEndian.AppendUint32(b.bytes, b.sequence)
	b.bytes = binary.NativeEndian.AppendUint32(b.bytes, 0)
	b.bytes = append(b.bytes, head...)
	if fill != nil {
		fill(b)
	}
	binary.NativeEndian.PutUint32(b.bytes[start:], uint32(len(b.bytes)-start))
	return b.sequence
}

func (b *batch) attribute(kind uint16, value []byte) {
	b.bytes = binary.NativeEndian.AppendUint16(b.bytes, uint16(4+len(value)))
	b.bytes = binary.NativeEndian.AppendUint16(b.bytes, kind)
	b.bytes = append(b.bytes, value...)
	b.align()
}

func (b *batch) number(kind uint16, value uint32) {
	b.attribute(kind, binary.BigEndian.AppendUint32(nil, value))
}

func (b *batch) text(kind uint16, value string) { b.attribute(kind, append([]byte(value), 0)) }

// nest appends an attribute that is made of attributes.
func (b *batch) nest(kind uint16, fill func()) {
	start := len(b.bytes)
	b.bytes = append(b.bytes, 0, 0, 0, 0)
	fill()
	binary.NativeEndian.PutUint16(b.bytes[start:], uint16(len(b.bytes)-start))
	binary.NativeEndian.PutUint16(b.bytes[start+2:], kind|nested)
}

func (b *batch) align() {
	for len(b.bytes)%4 != 0 {
		b.bytes = append(b.bytes, 0)
	}
}

// send gives it to the kernel and returns what it says of the message with that number, which asks for an answer. When
// `all`, any other message's failure counts as well.
func (b *batch) send(protocol int, number uint32, all bool) error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return b.exchange(fd, number, all)
}

// exchange is send by a socket that is there.
func (b *batch) exchange(fd int, number uint32, all bool) error {
	if err := write(fd, b.bytes); err != nil {
		return err
	}
	// the kernel has done it all by now, and its answers wait
	answer := make([]byte, answerBytes)
	for {
		size, _, err := syscall.Recvfrom(fd, answer, syscall.MSG_DONTWAIT)
		if err != nil {
			return err
		}
		found, err := judge(answer[:size], number, all)
		if found || err != nil {
			return err
		}
	}
}

// write is sendto without the standard library's address, which is allocated anew each time.
func write(fd int, bytes []byte) error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&bytes[0])), uintptr(len(bytes)))
	if errno != 0 {
		return errno
	}
	return nil
}

// judge looks through one datagram of answers.
func judge(answer []byte, number uint32, all bool) (found bool, err error) {
	for len(answer) >= noRoomForOne {
		length := int(binary.NativeEndian.Uint32(answer))
		if length < noRoomForOne || length > len(answer) || binary.NativeEndian.Uint16(answer[4:]) != syscall.NLMSG_ERROR {
			return false, syscall.EBADMSG
		}
		mine := binary.NativeEndian.Uint32(answer[8:]) == number
		code := -int32(binary.NativeEndian.Uint32(answer[headerBytes:]))
		if code != 0 && (mine || all) {
			return mine, syscall.Errno(code)
		}
		if mine {
			return true, nil
		}
		answer = answer[min((length+3)&^3, len(answer)):]
	}
	return false, nil
}
