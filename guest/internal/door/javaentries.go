package door

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
)

// the alias of the door's own authority in a store of Java's
const javaAlias = "cloche-door"

// withCertificate is a store of Java's with one more authority in it, and none of before; nil for what Java has not
// written with its usual password, or what has more in it than authorities.
func withCertificate(store, certificate []byte) []byte {
	others, count, ok := otherEntries(store)
	if !ok {
		return nil
	}
	var entries bytes.Buffer
	entries.Grow(len(others) + len(certificate) + 64)
	entries.Write(others)
	writeEntry(&entries, javaAlias, certificate)
	return sealed(entries.Bytes(), count+1)
}

// otherEntries are those of a store but the door's own, as they are.
func otherEntries(store []byte) (entries []byte, count uint32, ok bool) {
	end := len(store) - sha1.Size
	if end < javaHead || binary.BigEndian.Uint32(store) != javaMagic || binary.BigEndian.Uint32(store[4:]) != javaVersion ||
		!bytes.Equal(javaDigest(store[:end]), store[end:]) {
		return nil, 0, false
	}
	rest := entryReader(store[javaHead:end])
	for left := binary.BigEndian.Uint32(store[8:]); left > 0; left-- {
		entry, alias := rest.entry()
		if entry == nil {
			return nil, 0, false
		}
		if alias != javaAlias {
			entries = append(entries, entry...)
			count++
		}
	}
	return entries, count, len(rest) == 0
}

// entryReader is what is left of a store's entries.
type entryReader []byte

// entry takes the next one; nil when it is no authority, or not whole.
func (r *entryReader) entry() (whole []byte, alias string) {
	begin := *r
	kind, ok := r.take(4)
	if !ok || binary.BigEndian.Uint32(kind) != trustedEntry {
		return nil, ""
	}
	name, named := r.takeLong(2)
	_, dated := r.take(8)
	_, typed := r.takeLong(2)
	_, held := r.takeLong(4)
	if !named || !dated || !typed || !held {
		return nil, ""
	}
	return begin[:len(begin)-len(*r)], string(name)
}

// takeLong takes as many bytes as a number of `size` bytes in front of them says.
func (r *entryReader) takeLong(size int) ([]byte, bool) {
	number, ok := r.take(size)
	if !ok {
		return nil, false
	}
	length := uint64(0)
	for _, digit := range number {
		length = length<<8 | uint64(digit)
	}
	if length > uint64(len(*r)) {
		return nil, false
	}
	return r.take(int(length))
}

func (r *entryReader) take(count int) ([]byte, bool) {
	if count > len(*r) {
		return nil, false
	}
	taken := (*r)[:count]
	*r = (*r)[count:]
	return taken, true
}
