package redirect

import "encoding/binary"

const (
	register = 1 // NFT_REG_1, of sixteen bytes

	// bases of a payload
	network, transport = 1, 2
)

// rule is a row of matches and what is done when all of them hold.
type rule []func(*batch)

func (r rule) write(b *batch) {
	b.text(1, tableName)
	b.text(2, chainName)
	b.nest(4, func() {
		for _, part := range r {
			part(b)
		}
	})
}

// expression is one instruction of the kernel's little machine.
func (b *batch) expression(name string, operands func()) {
	b.nest(1, func() {
		b.text(1, name)
		b.nest(2, operands)
	})
}

func (b *batch) compare(value ...byte) {
	b.expression("cmp", func() {
		b.number(1, register)
		b.number(2, 0) // equal
		b.nest(3, func() { b.attribute(1, value) })
	})
}

func familyIs(family byte) func(*batch)     { return metaIs(15, family) }   // NFT_META_NFPROTO
func protocolIs(protocol byte) func(*batch) { return metaIs(16, protocol) } // NFT_META_L4PROTO

func metaIs(key uint32, value byte) func(*batch) {
	return func(b *batch) {
		b.expression("meta", func() {
			b.number(2, key)
			b.number(1, register)
		})
		b.compare(value)
	}
}

// payloadIs: these bytes are there, so far behind the begin of that header.
func payloadIs(base, offset uint32, value ...byte) func(*batch) {
	return func(b *batch) {
		b.expression("payload", func() {
			b.number(1, register)
			b.number(2, base)
			b.number(3, offset)
			b.number(4, uint32(len(value)))
		})
		b.compare(value...)
	}
}

func verdict(code uint32) func(*batch) {
	const verdictRegister = 0
	return func(b *batch) {
		b.expression("immediate", func() {
			b.number(1, verdictRegister)
			b.nest(2, func() { b.nest(2, func() { b.number(1, code) }) })
		})
	}
}

// redirectTo sends it to that port of the loopback address of its family.
func redirectTo(port uint16) func(*batch) {
	const portIsGiven = 2 // NF_NAT_RANGE_PROTO_SPECIFIED
	return func(b *batch) {
		b.expression("immediate", func() {
			b.number(1, register)
			b.nest(2, func() { b.attribute(1, binary.BigEndian.AppendUint16(nil, port)) })
		})
		b.expression("redir", func() {
			b.number(1, register)
			b.number(3, portIsGiven)
		})
	}
}
