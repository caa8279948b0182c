package redirect

import (
	"encoding/binary"
	"syscall"
)

// linux/netfilter.h, linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h
const (
	protocolNetfilter      = 12
	batchBegin, batchEnd   = 0x10, 0x11
	subsystem              = 10
	newTable               = subsystem << 8
	newChain               = subsystem<<8 | 3
	newRule                = subsystem<<8 | 6
	familyInet, familyIPv4 = 1, 2
	hookOutput             = 3
	priorityDestination    = 0xffffff9c // -100, as every nat chain there has
	drop, accept           = 0, 1
)

// loopback6 is ::1.
var loopback6 = [16]byte{15: 1}

const (
	tableName = "cloche"
	chainName = "output"
)

// table makes the rules, all or none of them. Its one chain sees the first packet of each conversation only: the kernel
// remembers what became of it.
//
// What it does not carry on is dropped at once, which the sender is told (EPERM). UDP goes to port 0, where nobody can
// listen, so that the kernel answers it as a machine would that has no such service.
//
// `told`: of the packets that it refuses there are messages (listenForRefusals).
func table(family byte, told bool) error {
	var b batch
	b.message(batchBegin, 0, generic(0, subsystem), nil)
	b.message(newTable, 0, generic(family, 0), func(b *batch) { b.text(1, tableName) })
	b.message(newChain, syscall.NLM_F_CREATE, generic(family, 0), chain)
	rules := rulesOf(family, told)
	last := uint32(0)
	for i, rule := range rules {
		flags := uint16(syscall.NLM_F_CREATE | syscall.NLM_F_APPEND)
		if i == len(rules)-1 {
			flags |= syscall.NLM_F_ACK
		}
		last = b.message(newRule, flags, generic(family, 0), rule.write)
	}
	b.message(batchEnd, 0, generic(0, subsystem), nil)
	return b.send(protocolNetfilter, last, true)
}

// generic is struct nfgenmsg.
func generic(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, 0}, resource)
}

func chain(b *batch) {
	b.text(1, tableName)
	b.text(3, chainName)
	b.nest(4, func() {
		b.number(1, hookOutput)
		b.number(2, priorityDestination)
	})
	b.number(5, drop)
	b.text(7, "nat")
}

// rulesOf: the first that matches decides. What is left over is the chain's to drop.
func rulesOf(family byte, told bool) []rule {
	const ipv4, ipv6 = 2, 10
	rules := []rule{
		{familyIs(ipv4), payloadIs(network, 16, 127), verdict(accept)},
		{familyIs(ipv4), payloadIs(network, 16, Own[:]...), verdict(accept)},
	}
	if family == familyInet {
		rules = append(rules, rule{familyIs(ipv6), payloadIs(network, 24, loopback6[:]...), verdict(accept)})
	}
	rules = append(rules,
		rule{protocolIs(syscall.IPPROTO_TCP), redirectTo(TCPPort)},
		// nobody answers names by UDP over IPv6
		rule{familyIs(ipv4), protocolIs(syscall.IPPROTO_UDP), payloadIs(transport, 2, 0, DNSPort), redirectTo(DNSPort)})
	if told {
		rules = append(rules, rule{logged})
	}
	return append(rules, rule{protocolIs(syscall.IPPROTO_UDP), redirectTo(0)})
}
