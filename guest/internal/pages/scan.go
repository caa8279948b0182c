package pages

import (
	"encoding/binary"
	"syscall"

	"cloche/guest/internal/stages"
)

const (
	// Documentation/admin-guide/mm/pagemap.rst
	entryPresent  = 1 << 63
	entrySwapped  = 1 << 62
	entryFile     = 1 << 61 // of a file, or shared: the process has not made it its own
	entryBytes    = 8
	entriesAtOnce = 64 << 10 / entryBytes
)

// private are the pieces of the mappings that the process has written to.
func (p *process) private(mappings []extent) ([]extent, error) {
	fd, err := p.open("pagemap", syscall.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var found []extent
	for _, mapping := range mappings {
		if found, err = walked(fd, mapping, found); err != nil {
			return nil, stages.Of("read page map", err)
		}
	}
	return found, nil
}

// piece is the part of a mapping that begins at this address.
func (e extent) piece(address, length int64) extent {
	return extent{offset: e.offset + address - e.address, length: length, address: address}
}

// walked reads the entry of each page. PAGEMAP_SCAN (Linux 6.7) was tried: it is no faster here, and tells some pages
// twice when there are more pieces than it can tell at once.
func walked(fd int, mapping extent, found []extent) ([]extent, error) {
	buf := make([]byte, entriesAtOnce*entryBytes)
	begun := int64(-1)
	end := mapping.address + mapping.length
	for at := mapping.address; at < end; {
		want := min(entriesAtOnce, (end-at)/pageSize) * entryBytes
		n, err := syscall.Pread(fd, buf[:want], at/pageSize*entryBytes)
		if err != nil {
			return found, err
		}
		if n < entryBytes {
			return found, syscall.ESRCH
		}
		for i := 0; i+entryBytes <= n; i, at = i+entryBytes, at+pageSize {
			entry := binary.LittleEndian.Uint64(buf[i:])
			own := entry&(entryPresent|entrySwapped) != 0 && entry&entryFile == 0
			if own && begun < 0 {
				begun = at
			}
			if !own && begun >= 0 {
				found, begun = append(found, mapping.piece(begun, at-begun)), -1
			}
		}
	}
	if begun >= 0 {
		found = append(found, mapping.piece(begun, end-begun))
	}
	return found, nil
}
