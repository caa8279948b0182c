package door

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

// newOwnersOr skips where the kernel does not tell whose a socket is.
func newOwnersOr(t testing.TB) *owners {
	o := newOwners(-1)
	if o.fd < 0 {
		t.Skip("no NETLINK_SOCK_DIAG here")
	}
	o.most = patience
	return o
}

func pairOf(t testing.TB, address string) (code *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = accepted.Close() })
	return accepted.(*net.TCPConn)
}

func TestSocketIsFoundByItsFourNumbers(t *testing.T) {
	o := newOwnersOr(t)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		from, to := clientOf(pairOf(t, address))
		inode, uid, ok := o.ask(syscall.IPPROTO_TCP, from, to)
		if !ok || inode == 0 || uid != os.Getuid() {
			t.Fatal(inode, uid, ok)
		}
		o.last = []int{os.Getpid()}
		if pid := o.holder(inode); pid != os.Getpid() {
			t.Error(pid)
		}
		if _, _, ok := o.ask(syscall.IPPROTO_TCP, to, from); !ok {
			t.Error("the other end is not found")
		}
		from = netip.AddrPortFrom(from.Addr(), from.Port()^1)
		if _, _, ok := o.ask(syscall.IPPROTO_TCP, from, to); ok {
			t.Error("a socket that is not there is found")
		}
	}
	if name := programOf(os.Getpid()); !strings.HasPrefix(name, "door") {
		t.Error(name)
	}
}

func TestASocketOfDatagramsIsFoundByItsFourNumbers(t *testing.T) {
	o := newOwnersOr(t)
	for _, address := range []string{"127.0.0.1:9", "[::1]:9"} {
		socket, err := net.Dial("udp", address)
		if err != nil {
			t.Skip(err)
		}
		defer socket.Close()
		from, to := socket.LocalAddr().(*net.UDPAddr).AddrPort(), socket.RemoteAddr().(*net.UDPAddr).AddrPort()
		inode, uid, ok := o.ask(syscall.IPPROTO_UDP, from, to)
		if !ok {
			t.Skip("this kernel does not tell whose datagrams are")
		}
		o.last = []int{os.Getpid()}
		if pid := o.holder(inode); pid != os.Getpid() || uid != os.Getuid() {
			t.Error(pid, uid)
		}
		_ = socket.Close()
		if _, _, ok := o.ask(syscall.IPPROTO_UDP, from, to); ok {
			t.Error("a socket that is closed is found")
		}
	}
}

func BenchmarkOwner(b *testing.B) {
	o := newOwnersOr(b)
	from, to := clientOf(pairOf(b, "127.0.0.1:0"))
	o.last = []int{os.Getpid()}
	b.ResetTimer()
	for range b.N {
		o.of(syscall.IPPROTO_TCP, from, to)
	}
}

func BenchmarkOwnerAsk(b *testing.B) {
	o := newOwnersOr(b)
	from, to := clientOf(pairOf(b, "127.0.0.1:0"))
	b.ResetTimer()
	for range b.N {
		o.ask(syscall.IPPROTO_TCP, from, to)
	}
}
