package door

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloche/guest/internal/asuser"
	"cloche/guest/internal/users"
)

const (
	netlinkDiag   = 4
	diagByFamily  = 20 // SOCK_DIAG_BY_FAMILY
	diagAnswer    = 72 // bytes of struct inet_diag_msg
	lookAtMost    = 2 * time.Millisecond
	maxPids       = 512
	maxOwnerName  = 64
	netlinkHeader = 16
)

// owners tells which program a connection belongs to: for whoever reads what became of it, never for a decision. One
// socket is asked for by its four numbers; to read the kernel's table of all of them would take longer than connecting.
type owners struct {
	mu   sync.Mutex
	fd   int
	most time.Duration // for one search
	last []int         // processes that were found before, the newest last: they are looked at first
}

func newOwners(fd int) *owners {
	if fd < 0 {
		fd, _ = syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, netlinkDiag)
	}
	if fd >= 0 {
		limit := syscall.NsecToTimeval(int64(100 * time.Millisecond))
		_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
	}
	return &owners{fd: fd, most: lookAtMost}
}

// of is the owner of the connection from one end to the other as the code sees them; 0 and "" when it takes long, or
// nobody can tell.
func (o *owners) of(protocol byte, from, to netip.AddrPort) (pid int, name string) {
	if o.fd < 0 {
		return 0, ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	inode, uid, ok := o.ask(protocol, from, to)
	if !ok {
		return 0, ""
	}
	_ = asuser.Run(users.User{UID: uid, GID: uid}, func() error { pid = o.holder(inode); return nil })
	if pid > 0 {
		name = programOf(pid)
	}
	return pid, name
}

func (d *Door) ownerOf(code *net.TCPConn) (pid int, name string) {
	from, to := clientOf(code)
	return d.owners.of(syscall.IPPROTO_TCP, from, to)
}

// clientOf is both ends of a connection that was made to us.
func clientOf(code *net.TCPConn) (from, to netip.AddrPort) {
	return code.RemoteAddr().(*net.TCPAddr).AddrPort(), code.LocalAddr().(*net.TCPAddr).AddrPort()
}

// ask is one question to the kernel: whose is the socket from `from` to `to`?
func (o *owners) ask(protocol byte, from, to netip.AddrPort) (inode uint32, uid int, ok bool) {
	if syscall.Sendto(o.fd, diagRequest(protocol, from, to), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}) != nil {
		return 0, 0, false
	}
	var buf [512]byte
	n, _, err := syscall.Recvfrom(o.fd, buf[:], 0)
	if err != nil || n < netlinkHeader+diagAnswer || binary.NativeEndian.Uint16(buf[4:]) != diagByFamily {
		return 0, 0, false
	}
	tail := buf[netlinkHeader+diagAnswer-8:]
	return binary.NativeEndian.Uint32(tail[4:]), int(binary.NativeEndian.Uint32(tail)), true
}

// diagRequest is struct nlmsghdr and struct inet_diag_req_v2. Of UDP the kernel wants the ends the other way round.
func diagRequest(protocol byte, from, to netip.AddrPort) []byte {
	if protocol == syscall.IPPROTO_UDP {
		from, to = to, from
	}
	const size = netlinkHeader + 56
	message := make([]byte, size)
	binary.NativeEndian.PutUint32(message, size)
	binary.NativeEndian.PutUint16(message[4:], diagByFamily)
	binary.NativeEndian.PutUint16(message[6:], syscall.NLM_F_REQUEST)
	body := message[netlinkHeader:]
	body[0], body[1] = syscall.AF_INET, protocol
	if from.Addr().Is6() && !from.Addr().Is4In6() {
		body[0] = syscall.AF_INET6
	}
	binary.NativeEndian.PutUint32(body[4:], 0xffffffff) // in any state
	binary.BigEndian.PutUint16(body[8:], from.Port())
	binary.BigEndian.PutUint16(body[10:], to.Port())
	copy(body[12:28], from.Addr().Unmap().AsSlice())
	copy(body[28:44], to.Addr().Unmap().AsSlice())
	for i := 48; i < 56; i++ {
		body[i] = 0xff // any cookie
	}
	return message
}

// holder is the process that has the socket open.
func (o *owners) holder(inode uint32) int {
	link := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	until := time.Now().Add(o.most)
	for i := len(o.last) - 1; i >= 0; i-- {
		if holds(o.last[i], link, until) {
			return o.last[i]
		}
	}
	for _, pid := range pids() {
		if holds(pid, link, until) {
			o.remember(pid)
			return pid
		}
	}
	return 0
}

func (o *owners) remember(pid int) {
	const kept = 4
	if o.last = append(o.last, pid); len(o.last) > kept {
		o.last = append(o.last[:0], o.last[1:]...)
	}
}

// pids are the newest first: they are those who connect.
func pids() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var found []int
	for i := len(names) - 1; i >= 0 && len(found) < maxPids; i-- {
		if pid, err := strconv.Atoi(names[i]); err == nil && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

// holds looks at the descriptors of a process, the highest first: they are the newest.
func holds(pid int, link string, until time.Time) bool {
	if time.Now().After(until) {
		return false
	}
	place := "/proc/" + strconv.Itoa(pid) + "/fd"
	dir, err := os.Open(place)
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(4096)
	for i := len(names) - 1; i >= 0; i-- {
		if target, err := os.Readlink(place + "/" + names[i]); err == nil && target == link {
			return true
		}
		if i%64 == 0 && time.Now().After(until) {
			return false
		}
	}
	return false
}

func programOf(pid int) string {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return ""
	}
	defer file.Close()
	var buf [maxOwnerName]byte
	n, _ := file.Read(buf[:])
	return strings.ToValidUTF8(strings.TrimRight(string(buf[:n]), "\n"), "\ufffd")
}
