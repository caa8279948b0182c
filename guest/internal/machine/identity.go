package machine

import (
	"bytes"
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

// rewrite replaces a file by name, or does nothing.
func rewrite(place, content string) {
	if readFile(place) == content {
		return
	}
	beside := place + ".cloche"
	_ = os.Remove(beside)
	file, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return
	}
	_, err = io.Copy(file, bytes.NewReader([]byte(content)))
	if closed := file.Close(); err == nil && closed == nil {
		err = os.Rename(beside, place)
	}
	if err != nil {
		_ = os.Remove(beside)
	}
}
