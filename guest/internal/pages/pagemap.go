package pages

import "sync"

// pageMap says which pages a file of pages has, a bit for each, behind them. The file's own holes do not say it: a page
// of zeros may come back as a hole, or a hole as zeros, from any copy, archive or file system.
type pageMap struct {
	lock sync.Mutex
	bits []byte
}

// mapBytes is the size of the map of so many bytes of memory.
func mapBytes(size int64) int64 { return (size/pageSize + 7) / 8 }

func newPageMap(size int64) *pageMap { return &pageMap{bits: make([]byte, mapBytes(size))} }

func (m *pageMap) mark(offset, length int64) {
	m.lock.Lock()
	defer m.lock.Unlock()
	for page := offset / pageSize; page < (offset+length)/pageSize; page++ {
		m.bits[page/8] |= 1 << (page % 8)
	}
}

func (m *pageMap) has(page int64) bool { return m.bits[page/8]>>(page%8)&1 == 1 }

// within are the marked pages as pieces of these mappings.
func (m *pageMap) within(mappings []extent) (found []extent) {
	for _, mapping := range mappings {
		last := (mapping.offset + mapping.length) / pageSize
		for page := mapping.offset / pageSize; page < last; page++ {
			begin := page
			for page < last && m.has(page) {
				page++
			}
			if page > begin {
				found = append(found, mapping.piece(mapping.address+begin*pageSize-mapping.offset, (page-begin)*pageSize))
			}
		}
	}
	return found
}
