package procs

import (
	"bytes"
	"strconv"
	"syscall"
)

// readOOMKills reads the kernel's count of processes killed for memory; -1 when the engine gave no descriptor.
func readOOMKills(fd int) int64 {
	if fd < 0 {
		return -1
	}
	var buf [1024]byte
	n, err := syscall.Pread(fd, buf[:], 0)
	if err != nil {
		return -1
	}
	for _, line := range bytes.Split(buf[:n], []byte{'\n'}) {
		if value, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			count, _ := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return count
		}
	}
	return -1
}

// diagnose says which limit of the box explains a failure, if one does. A shell whose command was killed says 137.
func (p *Process) diagnose(code int) string {
	if code == 128+int(syscall.SIGKILL) && readOOMKills(p.manager.MemoryFD) > p.oomBase {
		return "memory"
	}
	for _, place := range []string{p.cwd, "/", "/tmp"} {
		if full(place) {
			return "disk"
		}
	}
	return ""
}

// full tells whether the file system has neither blocks nor inodes to give. Read-only and virtual ones have no blocks.
func full(place string) bool {
	var stat syscall.Statfs_t
	if syscall.Statfs(place, &stat) != nil || stat.Blocks == 0 || stat.Flags&syscall.MS_RDONLY != 0 {
		return false
	}
	return stat.Bavail*uint64(stat.Bsize) < 4096 || stat.Files > 0 && stat.Ffree == 0
}
