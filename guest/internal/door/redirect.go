package door

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"unsafe"
)

// destination is where the code wanted to go before the kernel sent it here.
type destination = netip.AddrPort

const originalDst = 80 // SO_ORIGINAL_DST, and IP6T_SO_ORIGINAL_DST

var errNotRedirected = errors.New("nobody redirected this connection")

func (d *Door) serveRedirect(code *net.TCPConn) {
	wanted, err := d.original(code)
	if err != nil || wanted.Addr().IsLoopback() || wanted.Addr().IsUnspecified() {
		reset(code)
		return
	}
	host, ok := d.hostOf(wanted.Addr())
	if !d.open.Load() {
		d.attempts.add(host, int(wanted.Port()), "tcp")
	}
	if !ok || !d.open.Load() {
		reset(code)
		return
	}
	d.connect(code, host, wanted)
}

// hostOf is the name that an address stands for, or the address. One that stands for names and was never given out is
// nowhere.
func (d *Door) hostOf(address netip.Addr) (host string, ok bool) {
	if name, ok := d.names.name(address); ok {
		return name, true
	}
	return address.String(), !given.Contains(address)
}

func (d *Door) connect(code *net.TCPConn, host string, to destination) {
	from, _ := clientOf(code)
	said := &head{Kind: "connect", Host: host, Port: int(to.Port()), Via: "redirect"}
	said.Pid, said.Process = d.owners.of(syscall.IPPROTO_TCP, from, to)
	stream, err := d.begin(said)
	if err != nil {
		reset(code)
		return
	}
	relay(code, stream)
}

// originalDestination asks the kernel's connection tracking.
func originalDestination(code *net.TCPConn) (found destination, err error) {
	raw, err := code.SyscallConn()
	if err != nil {
		return found, err
	}
	local := code.LocalAddr().(*net.TCPAddr)
	controlled := raw.Control(func(fd uintptr) {
		if local.IP.To4() != nil {
			found, err = original4(fd)
		} else {
			found, err = original6(fd)
		}
	})
	if controlled != nil {
		return found, controlled
	}
	if err == nil && found.Port() == uint16(local.Port) && found.Addr().IsLoopback() {
		err = errNotRedirected
	}
	return found, err
}

func original4(fd uintptr) (destination, error) {
	var raw syscall.RawSockaddrInet4
	size := uint32(unsafe.Sizeof(raw))
	if err := getsockopt(fd, syscall.IPPROTO_IP, unsafe.Pointer(&raw), &size); err != nil {
		return destination{}, err
	}
	return netip.AddrPortFrom(netip.AddrFrom4(raw.Addr), portOf(raw.Port)), nil
}

func original6(fd uintptr) (destination, error) {
	var raw syscall.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(raw))
	if err := getsockopt(fd, syscall.IPPROTO_IPV6, unsafe.Pointer(&raw), &size); err != nil {
		return destination{}, err
	}
	return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr).Unmap(), portOf(raw.Port)), nil
}

func getsockopt(fd, level uintptr, value unsafe.Pointer, size *uint32) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, level, originalDst, uintptr(value),
		uintptr(unsafe.Pointer(size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// portOf: the kernel writes it as on the network.
func portOf(raw uint16) uint16 {
	var bytes [2]byte
	binary.NativeEndian.PutUint16(bytes[:], raw)
	return binary.BigEndian.Uint16(bytes[:])
}
