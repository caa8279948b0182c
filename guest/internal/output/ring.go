// Package output keeps what processes wrote, by byte offset, in rings of a bounded size.
package output

import "syscall"

// smallBytes is how much a ring holds on the heap; beyond it the ring is a mapping, which the kernel fills page by
// page and takes back at once when the process is forgotten.
const smallBytes = 64 << 10

// ring holds the newest max bytes of one stream. Its owner's lock guards every call.
type ring struct {
	max    int
	small  []byte
	mapped []byte
	start  uint64
	end    uint64
}

// write appends p, overwriting the oldest bytes.
func (r *ring) write(p []byte) {
	if len(p) > r.max {
		r.end += uint64(len(p) - r.max)
		p = p[len(p)-r.max:]
	}
	buf := r.room(len(p))
	if len(buf) == 0 {
		r.end += uint64(len(p))
		r.start = r.end
		return
	}
	at := int(r.end % uint64(len(buf)))
	copied := copy(buf[at:], p)
	copy(buf, p[copied:])
	r.end += uint64(len(p))
	if r.end-r.start > uint64(len(buf)) {
		r.start = r.end - uint64(len(buf))
	}
}

// room returns the buffer that can take n more bytes, or the largest there can be.
func (r *ring) room(n int) []byte {
	if r.mapped != nil {
		return r.mapped
	}
	if wanted := int(r.end-r.start) + n; r.start == 0 && wanted <= smallBytes && r.end < smallBytes {
		r.growSmall(wanted)
		return r.small[:cap(r.small)]
	}
	r.toMapping()
	if r.mapped != nil {
		return r.mapped
	}
	r.growSmall(min(smallBytes, r.max))
	return r.small[:cap(r.small)]
}

func (r *ring) growSmall(wanted int) {
	if wanted <= cap(r.small) {
		return
	}
	size := max(512, cap(r.small))
	for size < wanted {
		size *= 2
	}
	if size = min(size, r.max); size == cap(r.small) {
		return
	}
	grown := make([]byte, size)
	copy(grown, r.small[:cap(r.small)])
	r.small = grown
}

func (r *ring) toMapping() {
	if r.max <= smallBytes {
		return
	}
	mapped, err := syscall.Mmap(-1, 0, r.max, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS|syscall.MAP_NORESERVE)
	if err != nil {
		r.max = smallBytes
		return
	}
	// A huge page for a few kilobytes of output would cost each process two megabytes.
	_ = syscall.Madvise(mapped, syscall.MADV_NOHUGEPAGE)
	for at := r.start; at < r.end; {
		chunk := r.slice(at, int(r.end-at))
		copyInto(mapped, at, chunk)
		at += uint64(len(chunk))
	}
	r.mapped, r.small = mapped, nil
}

func copyInto(buf []byte, offset uint64, p []byte) {
	copied := copy(buf[int(offset%uint64(len(buf))):], p)
	copy(buf, p[copied:])
}

func (r *ring) buffer() []byte {
	if r.mapped != nil {
		return r.mapped
	}
	return r.small[:cap(r.small)]
}

// slice returns bytes from offset on that lie together, at most n; offset must be in [start, end].
func (r *ring) slice(offset uint64, n int) []byte {
	buf := r.buffer()
	if len(buf) == 0 || offset >= r.end {
		return nil
	}
	at := int(offset % uint64(len(buf)))
	return buf[at : at+min(n, int(r.end-offset), len(buf)-at)]
}

// held is the memory in use, in bytes.
func (r *ring) held() int64 {
	if r.mapped != nil {
		return int64(min(r.end, uint64(len(r.mapped))))
	}
	return int64(cap(r.small))
}

// drop forgets every byte and gives the memory back.
func (r *ring) drop() {
	if r.mapped != nil {
		_ = syscall.Munmap(r.mapped)
	}
	r.mapped, r.small, r.start = nil, nil, r.end
}
