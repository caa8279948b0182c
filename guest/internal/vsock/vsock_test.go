package vsock

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

const (
	loopbackCID = 1
	anyPort     = 1<<32 - 1
	patience    = 10 * time.Second
)

// aPair is a connection whose own end is a Conn, over a unix socket: what is asked of the descriptor is the same.
func aPair(t *testing.T) (*Conn, *net.UnixConn) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := newConn(pair[0], Addr{3, 1024}, Addr{hostCID, 7})
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(pair[1]), "host")
	defer file.Close()
	host, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), host.Close() })
	return conn, host.(*net.UnixConn)
}

func TestDirectionsEndOneByOne(t *testing.T) {
	conn, host := aPair(t)
	if _, err := conn.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(host); string(said) != "last" || err != nil {
		t.Fatalf("%q %v", said, err)
	}
	_, _ = host.Write([]byte("more"))
	_ = host.CloseWrite()
	if said, err := io.ReadAll(conn); string(said) != "more" || err != nil {
		t.Fatalf("%q %v", said, err)
	}
	if conn.RemoteAddr().String() != "2:7" || conn.LocalAddr().Network() != "vsock" {
		t.Error(conn.RemoteAddr(), conn.LocalAddr())
	}
}

func TestAReadEndsAtItsDeadlineAndWhenItIsClosed(t *testing.T) {
	conn, _ := aPair(t)
	if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	ended := make(chan error, 1)
	go func() { _, err := conn.Read(make([]byte, 1)); ended <- err }()
	_ = conn.Close()
	if err := <-ended; err == nil {
		t.Fatal("it read something")
	}
	if conn.CloseWrite() == nil {
		t.Error("a closed connection was closed once more")
	}
}

// A listener over a unix socket: its peers have no CID, which a zero stands for.
func unixListener(t *testing.T, from uint32) (*Listener, string) {
	t.Helper()
	place := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: place})
	}
	if err == nil {
		err = syscall.Listen(fd, backlog)
	}
	if err != nil {
		t.Fatal(err)
	}
	listener, err := listenOn(fd, 1024, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, place
}

func TestHTTPOverAListener(t *testing.T) {
	listener, place := unixListener(t, 0)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	client, err := net.Dial("unix", place)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(patience))
	_, _ = client.Write([]byte("POST / HTTP/1.1\r\nHost: guest\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"))
	said, err := io.ReadAll(client)
	if err != nil || len(said) < 5 || string(said[len(said)-5:]) != "hello" {
		t.Fatalf("%q %v", said, err)
	}
	_ = server.Close()
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
}

func TestOnlyTheHostIsTaken(t *testing.T) {
	listener, place := unixListener(t, hostCID)
	client, err := net.Dial("unix", place)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted := make(chan error, 1)
	go func() { _, err := listener.Accept(); accepted <- err }()
	_ = client.SetDeadline(time.Now().Add(patience))
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
	_ = listener.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestAPortOfThisKernel(t *testing.T) {
	listener, err := listen(anyPort, loopbackCID)
	if err != nil {
		t.Skip("no vsock in this kernel: ", err)
	}
	defer listener.Close()
	// which one the kernel has chosen
	var here address
	size := uint32(unsafe.Sizeof(here))
	_ = listener.raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_GETSOCKNAME, fd, uintptr(unsafe.Pointer(&here)), uintptr(unsafe.Pointer(&size)))
	})
	if here.family != family || here.port == anyPort {
		t.Fatalf("%+v", here)
	}
	if _, err := listen(here.port, hostCID); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the port was given twice: %v", err)
	}
	talkThroughLoopback(t, listener, here.port)
}

func talkThroughLoopback(t *testing.T, listener *Listener, port uint32) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	short := [2]int64{0, int64(200 * time.Millisecond / time.Microsecond)}
	const connectTimeout = 6 // SO_VM_SOCKETS_CONNECT_TIMEOUT
	_, _, _ = syscall.Syscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), family, connectTimeout, uintptr(unsafe.Pointer(&short)),
		unsafe.Sizeof(short), 0)
	there := address{family: family, port: port, cid: loopbackCID}
	_, _, errno := syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&there)), unsafe.Sizeof(there))
	if errno != 0 {
		t.Skip("this kernel has no vsock loopback: ", errno)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = syscall.Write(fd, []byte("x"))
	p := make([]byte, 2)
	if n, err := conn.Read(p); n != 1 || err != nil || p[0] != 'x' {
		t.Fatal(n, err)
	}
}
