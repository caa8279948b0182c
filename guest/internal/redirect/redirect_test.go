package redirect

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

const inside = "REDIRECT_TEST_INSIDE"

// Only a broken test waits so long.
const patience = 20 * time.Second

// enter runs the calling test again in new user and network namespaces, where everything is redirected, and tells whether
// this is that run.
func enter(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == "" {
		again(t)
		return false
	}
	prepare(t)
	return true
}

// again runs the calling test in namespaces of its own.
func again(t *testing.T) {
	t.Helper()
	child := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), inside+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	said, err := child.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &ended):
		t.Skip("no user and network namespace of its own: ", err)
	case err != nil:
		t.Fatalf("inside: %v\n%s", err, said)
	case strings.Contains(string(said), "--- SKIP"):
		t.Skipf("inside:\n%s", said)
	}
}

// prepare returns the socket of refusals, -1 where the kernel has none.
func prepare(t *testing.T) int {
	t.Helper()
	raiseLoopback(t)
	refusals, err := Install()
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EPROTONOSUPPORT) {
		t.Skip("the kernel has no nf_tables: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return refusals
}

func raiseLoopback(t testing.TB) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	request := struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}{name: [16]byte{'l', 'o'}, flags: syscall.IFF_UP}
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); e != 0 {
		t.Fatal(e)
	}
}

// tellDestinations accepts at the redirection's port and answers each with where it was going.
func tellDestinations(t *testing.T, address string) {
	t.Helper()
	var config net.ListenConfig
	// a connection of several paths does not tell where it was going
	config.SetMultipathTCP(false)
	listener, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			one, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = one.Write([]byte(destination(one.(*net.TCPConn))))
			_ = one.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
}

func destination(one *net.TCPConn) (where string) {
	const originalDestination = 80 // SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST
	six := one.LocalAddr().(*net.TCPAddr).IP.To4() == nil
	level, address := uintptr(syscall.IPPROTO_IP), [28]byte{}
	if six {
		level = syscall.IPPROTO_IPV6
	}
	raw, _ := one.SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		size := uint32(len(address))
		_, _, e := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, level, originalDestination,
			uintptr(unsafe.Pointer(&address[0])), uintptr(unsafe.Pointer(&size)), 0)
		port := binary.BigEndian.Uint16(address[2:])
		ip, _ := netip.AddrFromSlice(address[4:8])
		if six {
			ip, _ = netip.AddrFromSlice(address[8:24])
		}
		where = netip.AddrPortFrom(ip, port).String()
		if e != 0 {
			where = e.Error()
		}
	})
	return where
}

func answered(t *testing.T, network, address string) string {
	t.Helper()
	one, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return err.Error()
	}
	defer one.Close()
	_ = one.SetDeadline(time.Now().Add(patience))
	_, _ = one.Write([]byte("?"))
	answer := make([]byte, 100)
	size, err := one.Read(answer)
	if err != nil {
		return err.Error()
	}
	return string(answer[:size])
}

func TestEveryForeignAddressArrivesWithItsDestination(t *testing.T) {
	if !enter(t) {
		return
	}
	tellDestinations(t, "127.0.0.1:15001")
	cases := map[string]string{"1.2.3.4:80": "1.2.3.4:80", "198.18.0.7:443": "198.18.0.7:443", "8.8.8.8:15001": "8.8.8.8:15001",
		"169.254.169.254:80": "169.254.169.254:80", "[::ffff:9.9.9.9]:22": "9.9.9.9:22", "10.0.0.1:53": "10.0.0.1:53"}
	if hasIPv6() {
		tellDestinations(t, "[::1]:15001")
		cases["[2001:db8::1]:80"], cases["[fe80::1%lo]:80"] = "[2001:db8::1]:80", "[fe80::1]:80"
	}
	for asked, want := range cases {
		if got := answered(t, "tcp", asked); got != want {
			t.Errorf("%s: heard %q", asked, got)
		}
	}
}

func hasIPv6() bool {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err == nil {
		_ = listener.Close()
	}
	return err == nil
}

func TestTheSandboxesOwnAddressesAreLeftAlone(t *testing.T) {
	if !enter(t) {
		return
	}
	tellDestinations(t, "127.0.0.1:15001")
	serve := func(listener net.Listener, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				one, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = one.Write([]byte("mine"))
				_ = one.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		return port
	}
	all := serve(net.Listen("tcp4", "0.0.0.0:0"))
	cases := []string{"127.0.0.1:" + all, "127.9.9.9:" + all, "0.0.0.0:" + all, "198.18.0.1:" + all,
		"127.0.0.1:" + serve(net.Listen("tcp4", "127.0.0.1:0"))}
	if hasIPv6() {
		cases = append(cases, "[::1]:"+serve(net.Listen("tcp6", "[::]:0")), "[::1]:"+serve(net.Listen("tcp6", "[::1]:0")))
	}
	for _, asked := range cases {
		if got := answered(t, "tcp", asked); got != "mine" {
			t.Errorf("%s: heard %q", asked, got)
		}
	}
}

func TestQuestionsForNamesReachTheGuestAndOtherDatagramsAreRefused(t *testing.T) {
	if !enter(t) {
		return
	}
	for _, address := range []string{"127.0.0.1:53", "0.0.0.0:9999"} {
		server, err := net.ListenPacket("udp4", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		go func() {
			question := make([]byte, 100)
			for {
				_, from, err := server.ReadFrom(question)
				if err != nil {
					return
				}
				_, _ = server.WriteTo([]byte("answer"), from)
			}
		}()
	}
	// a socket that is connected takes answers only from where it asked
	for asked, want := range map[string]string{"8.8.8.8:53": "answer", "198.18.0.7:53": "answer", "127.0.0.1:53": "answer",
		"127.0.0.1:9999": "answer", "198.18.0.1:9999": "answer", "8.8.8.8:9999": "refused", "8.8.8.8:443": "refused",
		"198.18.0.7:123": "refused"} {
		if got := answered(t, "udp", asked); !strings.HasSuffix(got, want) {
			t.Errorf("%s: heard %q", asked, got)
		}
	}
	if got := answered(t, "udp", "[2001:db8::1]:443"); hasIPv6() && !strings.HasSuffix(got, "refused") {
		t.Errorf("by IPv6: heard %q", got)
	}
}

func TestNobodyAnswersAPing(t *testing.T) {
	if !enter(t) {
		return
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
	if err != nil {
		t.Skip("no raw socket: ", err)
	}
	defer syscall.Close(fd)
	echo := []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}
	err = syscall.Sendto(fd, echo, 0, &syscall.SockaddrInet4{Addr: [4]byte{8, 8, 8, 8}})
	if err != syscall.EPERM {
		t.Errorf("to another address: %v", err)
	}
	if err = syscall.Sendto(fd, echo, 0, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Errorf("to itself: %v", err)
	}
}

func TestAMachineWithoutIPv6GetsTheRest(t *testing.T) {
	if os.Getenv(inside) == "" {
		again(t)
		return
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil && !os.IsNotExist(err) {
		t.Skip("IPv6 cannot be turned off: ", err)
	}
	prepare(t)
	tellDestinations(t, "127.0.0.1:15001")
	if got := answered(t, "tcp", "1.2.3.4:80"); got != "1.2.3.4:80" {
		t.Errorf("heard %q", got)
	}
}

func TestTheTableOfOneFamilyAloneWorks(t *testing.T) {
	if os.Getenv(inside) == "" {
		again(t)
		return
	}
	raiseLoopback(t)
	if err := routes(); err != nil {
		t.Fatal(err)
	}
	if err := table(familyIPv4, false); err != nil {
		t.Skip("the kernel has no nf_tables: ", err)
	}
	tellDestinations(t, "127.0.0.1:15001")
	if got := answered(t, "tcp", "1.2.3.4:80"); got != "1.2.3.4:80" {
		t.Errorf("heard %q", got)
	}
}

func TestWithoutRightsNothingIsInstalled(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root has them over the machine's own network")
	}
	if _, err := Install(); err == nil {
		t.Error("it says that it was installed")
	}
}
