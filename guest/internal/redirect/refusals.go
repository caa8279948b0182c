package redirect

import (
	"encoding/binary"
	"syscall"
)

// linux/netfilter/nfnetlink_log.h
const (
	logSubsystem = 4
	logConfig    = logSubsystem<<8 | 1
	refusalGroup = 1
	// of a packet: its headers say where it was going
	refusalBytes = 128
	// packets wait here for the guest; those for which there is no room are counted
	refusalQueue = 32 << 10
	// for one packet and what is said of it; the kernel allocates so much for each
	refusalMessage = 512
)

// listenForRefusals opens a socket on which the kernel tells of each packet that the rules refuse.
//
// Who inherits it can read it, and no more: the kernel takes orders by such a socket only from a process that has
// CAP_NET_ADMIN over the network namespace at the time, whoever opened it.
func listenForRefusals() (int, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, protocolNetfilter)
	if err != nil {
		return -1, err
	}
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, refusalQueue)
	if err := bindToRefusals(fd); err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindToRefusals asks for the headers of each packet at once, and for their numbers, which tell of those that were lost.
func bindToRefusals(fd int) error {
	var b batch
	last := b.message(logConfig, syscall.NLM_F_ACK, generic(0, refusalGroup), func(b *batch) {
		const command, mode, buffer, queue, flags = 1, 2, 3, 5, 6
		const bind, copyPacket, numbered = 1, 2, 1
		b.attribute(command, []byte{bind})
		b.attribute(mode, append(binary.BigEndian.AppendUint32(nil, refusalBytes), copyPacket, 0))
		b.number(buffer, refusalMessage)
		b.number(queue, 1)
		b.attribute(flags, binary.BigEndian.AppendUint16(nil, numbered))
	})
	return b.exchange(fd, last, true)
}

// logged tells of the packet.
func logged(b *batch) {
	b.expression("log", func() {
		const group, length = 1, 3
		b.attribute(group, binary.BigEndian.AppendUint16(nil, refusalGroup))
		b.number(length, refusalBytes)
	})
}
