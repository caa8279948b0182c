package pages

import (
	"bytes"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"cloche/guest/internal/stages"
	"cloche/guest/internal/sys"
)

const (
	threads  = 2
	portion  = 1 << 20
	seekData = 3
	seekHole = 4
)

var zeros [pageSize]byte

// Counts is what was copied.
type Counts struct {
	Pages   int64
	Extents int64
}

func (c *Counts) add(bytes int64) {
	atomic.AddInt64(&c.Pages, bytes/pageSize)
	atomic.AddInt64(&c.Extents, 1)
}

// inPortions calls work with pieces of at most a portion, from several threads, each with a buffer of its own.
func inPortions(extents []extent, work func(piece extent, buf []byte) error) error {
	var pieces []extent
	for _, e := range extents {
		for at := int64(0); at < e.length; at += portion {
			pieces = append(pieces, e.piece(e.address+at, min(portion, e.length-at)))
		}
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	failures := make([]error, min(threads, len(pieces)))
	for i := range failures {
		workers.Add(1)
		go func() {
			defer workers.Done()
			buf := make([]byte, portion)
			for failures[i] == nil {
				n := int(next.Add(1)) - 1
				if n >= len(pieces) {
					return
				}
				failures[i] = work(pieces[n], buf[:pieces[n].length])
			}
		}()
	}
	workers.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// Save copies what the process has made its own of its private mapping of `base` to the same places of `out`, which is
// empty and of the same size, and writes behind them which pages these are. Pages of zeros are left out where the base
// has a hole.
func Save(pid, base, out int) (Counts, error) {
	var counts Counts
	p, mappings, size, err := find(pid, base, out, func(size int64) int64 { return size })
	if err != nil {
		return counts, err
	}
	defer syscall.Close(p.dir)
	own, err := p.private(mappings)
	if err != nil {
		return counts, err
	}
	saved := newPageMap(size)
	err = inPortions(own, func(piece extent, buf []byte) error {
		if err := readMemory(pid, buf, piece.address); err != nil {
			return stages.Of("read memory", err)
		}
		return stages.Of("write pages", writePages(base, out, piece.offset, buf, &counts, saved))
	})
	if err == nil {
		err = p.alive()
	}
	if err == nil {
		err = stages.Of("write pages", writeAt(out, saved.bits, size))
	}
	return counts, err
}

// writePages leaves out the zeros that the base has as well.
func writePages(base, out int, offset int64, buf []byte, counts *Counts, saved *pageMap) error {
	begun, hole := 0, hole{fd: base}
	flush := func(end int) error {
		if end == begun {
			return nil
		}
		counts.add(int64(end - begun))
		saved.mark(offset+int64(begun), int64(end-begun))
		return writeAt(out, buf[begun:end], offset+int64(begun))
	}
	for i := 0; i < len(buf); i += pageSize {
		if !bytes.Equal(buf[i:i+pageSize], zeros[:]) || !hole.holds(offset+int64(i)) {
			continue
		}
		if err := flush(i); err != nil {
			return err
		}
		begun = i + pageSize
	}
	return flush(len(buf))
}

// hole remembers the last look at a file: places are asked for in ascending order.
type hole struct {
	fd       int
	from, to int64 // all of it is a hole, or none
	isHole   bool
}

func (h *hole) holds(offset int64) bool {
	if offset < h.from || offset >= h.to {
		h.look(offset)
	}
	return h.isHole
}

func (h *hole) look(offset int64) {
	h.from = offset
	data, err := syscall.Seek(h.fd, offset, seekData)
	switch {
	case err == syscall.ENXIO:
		h.to, h.isHole = 1<<62, true
	case err != nil:
		// what cannot be told is copied
		h.to, h.isHole = offset+pageSize, false
	case data-offset >= pageSize:
		h.to, h.isHole = data&^(pageSize-1), true
	default:
		h.isHole = false
		if h.to, err = syscall.Seek(h.fd, offset, seekHole); err != nil || h.to < offset+pageSize {
			h.to = offset + pageSize
		}
	}
}

// Load writes the pages that `in` has to the same places of the process's private mapping of `base`.
func Load(pid, base, in int) (Counts, error) {
	var counts Counts
	p, mappings, size, err := find(pid, base, in, func(size int64) int64 { return size + mapBytes(size) })
	if err != nil {
		return counts, err
	}
	defer syscall.Close(p.dir)
	saved := newPageMap(size)
	if err := readAt(in, saved.bits, size); err != nil {
		return counts, stages.Of("read pages", err)
	}
	mem, err := p.open("mem", syscall.O_RDWR)
	if err != nil {
		return counts, err
	}
	defer syscall.Close(mem)
	err = inPortions(saved.within(mappings), func(piece extent, buf []byte) error {
		if err := readAt(in, buf, piece.offset); err != nil {
			return stages.Of("read pages", err)
		}
		counts.add(piece.length)
		return stages.Of("write memory", writeAt(mem, buf, piece.address))
	})
	return counts, err
}

// find also tells the size of the base.
func find(pid, base, other int, expected func(size int64) int64) (*process, []extent, int64, error) {
	var baseStat, otherStat syscall.Stat_t
	if err := syscall.Fstat(base, &baseStat); err != nil {
		return nil, nil, 0, stages.Of("base file", err)
	}
	if err := syscall.Fstat(other, &otherStat); err != nil {
		return nil, nil, 0, stages.Of("pages file", err)
	}
	if wanted := expected(baseStat.Size); otherStat.Size != wanted || baseStat.Size%pageSize != 0 {
		return nil, nil, 0, stages.Off("pages file", "it has %d bytes, and with a base of %d it must have %d", otherStat.Size, baseStat.Size, wanted)
	}
	p, err := openProcess(pid)
	if err != nil {
		return nil, nil, 0, err
	}
	mappings, err := p.mappings(baseStat.Ino, baseStat.Size)
	if err != nil {
		_ = syscall.Close(p.dir)
	}
	return p, mappings, baseStat.Size, err
}

// readMemory is a fifth cheaper than reading the file "mem" of the process. It goes by number, so whoever calls it asks
// afterwards whether the process is still there; for the same reason nothing is written in this way.
func readMemory(pid int, buf []byte, address int64) error {
	return whole(buf, address, func(part []byte, at int64) (int, error) {
		local := [2]uintptr{uintptr(unsafe.Pointer(&part[0])), uintptr(len(part))}
		remote := [2]uintptr{uintptr(at), uintptr(len(part))}
		n, _, e := syscall.Syscall6(sys.NrProcessVMReadv, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1,
			uintptr(unsafe.Pointer(&remote)), 1, 0)
		if e != 0 {
			return 0, e
		}
		return int(n), nil
	})
}

func readAt(fd int, buf []byte, at int64) error {
	return whole(buf, at, func(part []byte, at int64) (int, error) { return syscall.Pread(fd, part, at) })
}

func writeAt(fd int, buf []byte, at int64) error {
	return whole(buf, at, func(part []byte, at int64) (int, error) { return syscall.Pwrite(fd, part, at) })
}

// whole calls again for what a call has left over. Nothing at all means that the process, or the file, has ended.
func whole(buf []byte, at int64, call func([]byte, int64) (int, error)) error {
	for len(buf) > 0 {
		n, err := call(buf, at)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n <= 0 {
			return syscall.ESRCH
		}
		buf, at = buf[n:], at+int64(n)
	}
	return nil
}
