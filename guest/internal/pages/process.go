package pages

import (
	"bufio"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"cloche/guest/internal/stages"
)

const (
	pageSize = 4096
	// more than the kernel allows one process to have mappings, at their usual length
	mostOfMaps = 32 << 20
)

// process is held by its directory in /proc, which never stands for another one: what is opened there after its end is
// an error, whoever has its number then.
type process struct{ dir int }

func openProcess(pid int) (*process, error) {
	dir, err := syscall.Open("/proc/"+strconv.Itoa(pid), syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	return &process{dir}, stages.Of("open process", err)
}

func (p *process) open(name string, flags int) (int, error) {
	fd, err := syscall.Openat(p.dir, name, flags|syscall.O_CLOEXEC, 0)
	return fd, stages.Of("open "+name+" of the process", err)
}

// alive fails once the process has ended and somebody else may have its number.
func (p *process) alive() error {
	fd, err := p.open("stat", syscall.O_RDONLY)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Pread(fd, make([]byte, 16), 0)
	return stages.Of("read memory", err)
}

// extent is a piece of the RAM file and the address at which the process has it.
type extent struct{ offset, length, address int64 }

// mappings are the process's private mappings of the file with this inode, which together are the whole of it. Device
// numbers are not compared: on btrfs those of mappings are others than those of files.
func (p *process) mappings(inode uint64, size int64) ([]extent, error) {
	fd, err := p.open("maps", syscall.O_RDONLY)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "maps")
	defer file.Close()
	var found []extent
	lines := bufio.NewScanner(io.LimitReader(file, mostOfMaps))
	for lines.Scan() {
		if e, ok := parseMapping(lines.Text(), inode); ok {
			found = append(found, e)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, stages.Of("read mappings", unwrap(err))
	}
	return joined(found, size)
}

// parseMapping reads a line like "7f00-7f10 rw-p 00001000 fe:00 1234 /path".
func parseMapping(line string, inode uint64) (extent, bool) {
	fields := strings.Fields(line)
	if len(fields) < 5 || len(fields[1]) != 4 || fields[1][3] != 'p' || fields[4] != strconv.FormatUint(inode, 10) {
		return extent{}, false
	}
	from, to, both := strings.Cut(fields[0], "-")
	first, err1 := strconv.ParseInt(from, 16, 64)
	last, err2 := strconv.ParseInt(to, 16, 64)
	offset, err3 := strconv.ParseInt(fields[2], 16, 64)
	if !both || err1 != nil || err2 != nil || err3 != nil || last <= first {
		return extent{}, false
	}
	return extent{offset: offset, length: last - first, address: first}, true
}

// joined makes neighbours one, and refuses what is not exactly the file.
func joined(found []extent, size int64) ([]extent, error) {
	if len(found) == 0 {
		return nil, stages.Off("find mapping", "the process has no private mapping of this file")
	}
	sort.Slice(found, func(i, j int) bool { return found[i].offset < found[j].offset })
	whole, end := found[:0:0], int64(0)
	for _, e := range found {
		if e.offset != end {
			return nil, stages.Off("find mapping", "the mappings of the process are not the file: %d instead of %d", e.offset, end)
		}
		end += e.length
		if last := len(whole) - 1; last >= 0 && whole[last].address+whole[last].length == e.address {
			whole[last].length += e.length
			continue
		}
		whole = append(whole, e)
	}
	if end != size {
		return nil, stages.Off("find mapping", "the mapping has %d bytes, the file %d", end, size)
	}
	return whole, nil
}

func unwrap(err error) error {
	if path, ok := err.(*os.PathError); ok {
		return path.Err
	}
	return err
}
