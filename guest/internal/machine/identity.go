package machine

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
)

const (
	ownAddress  = "127.0.1.1"
	hostsAtMost = 1 << 20
	plainHosts  = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
)

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// all tells whether a text is made of these characters only. A regular expression would be compiled at every start.
func all(text, of string) bool {
	return strings.IndexFunc(text, func(c rune) bool { return !strings.ContainsRune(of, c) }) < 0
}

// CheckIdentity refuses what could be anything but a name in the files that it is written to. "" changes nothing.
func CheckIdentity(hostname, machineID string) error {
	inside := strings.Trim(hostname, "-.")
	if len(hostname) > 64 || inside != hostname || !all(hostname, letters+digits+"-.") {
		return errors.New("hostname must be at most 64 letters, digits, hyphens and dots")
	}
	if machineID != "" && (len(machineID) != 32 || !all(machineID, digits+"abcdef")) {
		return errors.New("machine_id must be 32 hexadecimal digits")
	}
	return nil
}

// Identify makes this machine another one by name. The kernel's name must change; a file that cannot be written, on a
// disk that is full or in a directory that somebody has replaced, keeps nobody from waking up.
func (m *Machine) Identify(hostname, machineID string) error {
	if machineID != "" {
		rewrite("/etc/machine-id", machineID+"\n")
	}
	if hostname == "" {
		return nil
	}
	if err := syscall.Sethostname([]byte(hostname)); err != nil {
		return err
	}
	rewrite("/etc/hostname", hostname+"\n")
	rewrite("/etc/hosts", hosts(readFile("/etc/hosts"), hostname))
	return nil
}

// hosts is the table with this machine's own name in it.
func hosts(table, hostname string) string {
	if table == "" {
		table = plainHosts
	}
	var lines []string
	for _, line := range strings.Split(strings.TrimRight(table, "\n"), "\n") {
		if fields := strings.Fields(line); len(fields) == 0 || fields[0] != ownAddress {
			lines = append(lines, line)
		}
	}
	return strings.Join(append(lines, ownAddress+"\t"+hostname), "\n") + "\n"
}

// readFile is "" for what is no regular file, too large or not there: everything in the sandbox may be replaced.
func readFile(place string) string {
	file, err := os.OpenFile(place, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(file, hostsAtMost+1))
	if err != nil || len(data) > hostsAtMost {
		return ""
	}
	return string(data)
}

// rewrite changes a file in its place, which touches the disk less than a new one would: nobody can read it meanwhile.
// What is no file, or a link that leads elsewhere, is replaced. It does nothing where that fails.
func rewrite(place, content string) {
	if readFile(place) == content {
		return
	}
	how := syscall.O_WRONLY | syscall.O_CREAT | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_CLOEXEC
	fd, err := syscall.Open(place, how, 0o644)
	if err != nil || !isFile(fd) {
		_ = syscall.Close(fd)
		if os.RemoveAll(place) != nil {
			return
		}
		if fd, err = syscall.Open(place, how|syscall.O_EXCL, 0o644); err != nil {
			return
		}
	}
	defer syscall.Close(fd)
	if n, err := syscall.Pwrite(fd, []byte(content), 0); err == nil && n == len(content) {
		_ = syscall.Ftruncate(fd, int64(n))
	}
}

func isFile(fd int) bool {
	var stat syscall.Stat_t
	return syscall.Fstat(fd, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFREG
}
