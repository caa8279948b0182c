package redirect

import (
	"encoding/binary"
	"syscall"
)

// loopback is 1 in every network namespace (LOOPBACK_IFINDEX).
const loopback = 1

var loopbackIndex = binary.NativeEndian.AppendUint32(nil, loopback)

// routes makes every address one of this machine's own, and gives it one that resolvers count. What leaves for anywhere
// comes from that one, so that answers find their way and programs which look for their own address find one that works.
func routes() error {
	var b batch
	b.message(syscall.RTM_NEWADDR, syscall.NLM_F_CREATE, addressHead(), func(b *batch) {
		b.attribute(syscall.IFA_LOCAL, Own[:])
		b.attribute(syscall.IFA_ADDRESS, Own[:])
	})
	b.message(syscall.RTM_NEWROUTE, syscall.NLM_F_CREATE, routeHead(syscall.AF_INET6), func(b *batch) {
		b.attribute(syscall.RTA_OIF, loopbackIndex)
	})
	last := b.message(syscall.RTM_NEWROUTE, syscall.NLM_F_CREATE|syscall.NLM_F_ACK, routeHead(syscall.AF_INET), func(b *batch) {
		b.attribute(syscall.RTA_OIF, loopbackIndex)
		b.attribute(syscall.RTA_PREFSRC, Own[:])
	})
	return b.send(syscall.NETLINK_ROUTE, last, false)
}

// addressHead is struct ifaddrmsg.
func addressHead() []byte {
	const prefix, permanent = 32, 0x80
	return append([]byte{syscall.AF_INET, prefix, permanent, syscall.RT_SCOPE_UNIVERSE}, loopbackIndex...)
}

// routeHead is struct rtmsg: everything, in the table of local addresses.
func routeHead(family byte) []byte {
	return []byte{family, 0, 0, 0, syscall.RT_TABLE_LOCAL, syscall.RTPROT_BOOT, syscall.RT_SCOPE_HOST, syscall.RTN_LOCAL, 0, 0, 0, 0}
}
