package mux

const (
	chunkBytes = 16 << 10
	keptChunks = 64
)

type chunk [chunkBytes]byte

// chunks are those that nobody uses now. An idle stream has none.
type chunks struct{ free []*chunk }

func (c *chunks) get() *chunk {
	if n := len(c.free); n > 0 {
		last := c.free[n-1]
		c.free = c.free[:n-1]
		return last
	}
	return new(chunk)
}

func (c *chunks) put(used *chunk) {
	if len(c.free) < keptChunks {
		c.free = append(c.free, used)
	}
}

// inbox holds the bytes of one stream that came and are not read yet.
type inbox struct {
	size       int
	chunks     []*chunk
	start, end int // in the first and in the last chunk
}

func (b *inbox) add(p []byte, from *chunks) {
	b.size += len(p)
	for len(p) > 0 {
		if len(b.chunks) == 0 || b.end == chunkBytes {
			b.chunks, b.end = append(b.chunks, from.get()), 0
		}
		n := copy(b.chunks[len(b.chunks)-1][b.end:], p)
		b.end += n
		p = p[n:]
	}
}

func (b *inbox) take(p []byte, to *chunks) (taken int) {
	for taken < len(p) && b.size > 0 {
		limit := chunkBytes
		if len(b.chunks) == 1 {
			limit = b.end
		}
		n := copy(p[taken:], b.chunks[0][b.start:limit])
		taken += n
		b.start += n
		b.size -= n
		if b.start == limit {
			b.drop(to)
		}
	}
	return taken
}

func (b *inbox) drop(to *chunks) {
	to.put(b.chunks[0])
	n := copy(b.chunks, b.chunks[1:])
	b.chunks[n] = nil
	b.chunks, b.start = b.chunks[:n], 0
}

func (b *inbox) clear(to *chunks) {
	for len(b.chunks) > 0 {
		b.drop(to)
	}
	b.size = 0
}
