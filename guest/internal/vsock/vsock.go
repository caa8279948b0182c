// Package vsock listens for the host of a virtual machine whose monitor has a vsock in the place of a serial port. Each
// connection is a stream of its own, so nothing is multiplexed here.
package vsock

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	family  = 40 // AF_VSOCK
	anyCID  = 1<<32 - 1
	hostCID = 2 // the host, whichever monitor it has
	backlog = 512
)

// address is the kernel's struct sockaddr_vm (include/uapi/linux/vm_sockets.h).
type address struct {
	family   uint16
	reserved uint16
	port     uint32
	cid      uint32
	flags    uint8
	_        [3]uint8
}

// Addr is a CID and a port. It implements net.Addr.
type Addr struct{ CID, Port uint32 }

// Network implements net.Addr.
func (Addr) Network() string { return "vsock" }

func (a Addr) String() string {
	return strconv.FormatUint(uint64(a.CID), 10) + ":" + strconv.FormatUint(uint64(a.Port), 10)
}

// Listener takes connections of the host and of nobody else: code in the machine may make such sockets too, and with the
// kernel's loopback it would reach this one.
type Listener struct {
	file *os.File
	raw  syscall.RawConn
	port uint32
	from uint32 // the only CID whose connections are taken
}

// Listen takes the port for as long as the listener is open.
func Listen(port uint32) (*Listener, error) {
	return listen(port, hostCID)
}

func listen(port, from uint32) (*Listener, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("this kernel has no vsock: %w", err)
	}
	here := address{family: family, port: port, cid: anyCID}
	_, _, errno := syscall.Syscall(syscall.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&here)), unsafe.Sizeof(here))
	if errno == 0 {
		err = syscall.Listen(fd, backlog)
	} else {
		err = errno
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("vsock port %d: %w", port, err)
	}
	return listenOn(fd, port, from)
}

// listenOn takes over a listening socket that does not block.
func listenOn(fd int, port, from uint32) (*Listener, error) {
	file := os.NewFile(uintptr(fd), "vsock")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Listener{file, raw, port, from}, nil
}

// Accept returns the host's next connection.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		fd, peer, err := l.accept()
		if err != nil {
			return nil, err
		}
		if peer.CID == l.from {
			return newConn(fd, Addr{anyCID, l.port}, peer)
		}
		_ = syscall.Close(fd)
	}
}

// accept: the standard library's refuses the addresses of a family that it does not know.
func (l *Listener) accept() (fd int, peer Addr, err error) {
	var from address
	var errno syscall.Errno
	waited := l.raw.Read(func(listening uintptr) bool {
		var taken uintptr
		size := uint32(unsafe.Sizeof(from))
		taken, _, errno = syscall.Syscall6(syscall.SYS_ACCEPT4, listening, uintptr(unsafe.Pointer(&from)),
			uintptr(unsafe.Pointer(&size)), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
		fd = int(taken)
		return errno != syscall.EAGAIN && errno != syscall.EINTR
	})
	if waited != nil {
		return -1, peer, net.ErrClosed
	}
	if errno != 0 {
		return -1, peer, errno
	}
	return fd, Addr{from.cid, from.port}, nil
}

// Close ends the listener; its connections stay.
func (l *Listener) Close() error { return l.file.Close() }

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return Addr{anyCID, l.port} }

// Conn is one connection. Its two directions end one by one.
type Conn struct {
	*os.File
	raw          syscall.RawConn
	local, other Addr
}

func newConn(fd int, local, other Addr) (*Conn, error) {
	file := os.NewFile(uintptr(fd), "vsock")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Conn{file, raw, local, other}, nil
}

// ReadFrom hides the file's own, which would hand the descriptor to calls that are about files.
func (c *Conn) ReadFrom(from io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c.File}, from)
}

// CloseWrite ends this direction; the host reads the end after what was written.
func (c *Conn) CloseWrite() (err error) {
	controlled := c.raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	if controlled != nil {
		return controlled
	}
	return err
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.other }

var (
	_ net.Listener = (*Listener)(nil)
	_ net.Conn     = (*Conn)(nil)
)
