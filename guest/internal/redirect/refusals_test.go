package redirect

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"cloche/guest/internal/refusals"
)

// heardOf is who listens in these tests.
type heardOf chan refusals.Refusal

func (h heardOf) HostOf(address netip.Addr) string { return address.String() }
func (h heardOf) Tell(refusal refusals.Refusal) bool {
	h <- refusal
	return true
}

// refusing is a namespace that tells of refusals. Nil outside of it.
func refusing(t *testing.T) heardOf {
	t.Helper()
	if os.Getenv(inside) == "" {
		again(t)
		return nil
	}
	socket := prepare(t)
	if socket < 0 {
		t.Skip("the kernel does not tell of refusals")
	}
	heard := make(heardOf, 1000)
	go refusals.Watch(socket, heard)
	return heard
}

func (h heardOf) next(t *testing.T) refusals.Refusal {
	t.Helper()
	select {
	case refusal := <-h:
		return refusal
	case <-time.After(patience):
		t.Fatal("nobody has heard of it")
		return refusals.Refusal{}
	}
}

func send(t *testing.T, address string, times int) {
	t.Helper()
	for range times {
		socket, err := net.Dial("udp", address)
		if err != nil {
			t.Fatal(address, err)
		}
		_, _ = socket.Write([]byte("?"))
		_ = socket.Close()
	}
}

func TestRefusedDatagramsAreTold(t *testing.T) {
	heard := refusing(t)
	if heard == nil {
		return
	}
	addresses := []string{"8.8.8.8:443", "198.18.0.7:123", "255.255.255.1:1"}
	if hasIPv6() {
		addresses = append(addresses, "[2001:db8::1]:443", "[2001:db8::1]:53")
	}
	for _, address := range addresses {
		send(t, address, 1)
		refusal := heard.next(t)
		want := netip.MustParseAddrPort(address)
		if refusal.Packet.To != want || refusal.Packet.Protocol != "udp" || refusal.Count != 1 || refusal.Host != want.Addr().String() {
			t.Errorf("%s: %+v", address, refusal)
		}
		if refusal.Packet.From.Port() == 0 {
			t.Errorf("%s: from no port", address)
		}
	}
}

func TestPingsAndOtherPacketsAreTold(t *testing.T) {
	heard := refusing(t)
	if heard == nil {
		return
	}
	for protocol, want := range map[int]string{syscall.IPPROTO_ICMP: "icmp", 253: "other"} {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, protocol)
		if err != nil {
			t.Skip("no raw socket: ", err)
		}
		to := syscall.SockaddrInet4{Addr: [4]byte{8, 8, 8, byte(protocol)}}
		if err := syscall.Sendto(fd, []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}, 0, &to); err != syscall.EPERM {
			t.Errorf("protocol %d: %v", protocol, err)
		}
		_ = syscall.Close(fd)
		refusal := heard.next(t)
		if refusal.Packet.Protocol != want || refusal.Host != fmt.Sprintf("8.8.8.%d", protocol) || refusal.Packet.To.Port() != 0 {
			t.Errorf("protocol %d: %+v", protocol, refusal)
		}
	}
}

func TestWhatIsCarriedIsNotTold(t *testing.T) {
	heard := refusing(t)
	if heard == nil {
		return
	}
	tellDestinations(t, "127.0.0.1:15001")
	if got := answered(t, "tcp", "1.2.3.4:80"); got != "1.2.3.4:80" {
		t.Errorf("heard %q", got)
	}
	send(t, "8.8.8.8:53", 1)
	send(t, "127.0.0.1:9", 1)
	send(t, "198.18.0.1:9", 1)
	send(t, "9.9.9.9:9", 1) // the first that is refused
	if refusal := heard.next(t); refusal.Host != "9.9.9.9" {
		t.Errorf("%+v", refusal)
	}
}

func TestAFloodIsCountedWhole(t *testing.T) {
	heard := refusing(t)
	if heard == nil {
		return
	}
	// each is a conversation of its own, and they are more than there is room for
	sent, got := 3000, 0
	for port := range sent {
		send(t, fmt.Sprintf("8.8.8.8:%d", port+1000), 1)
	}
	for until := time.Now().Add(3 * patience); got != sent; {
		select {
		case refusal := <-heard:
			got += refusal.Count
		case <-time.After(time.Second): // the last ones may have been lost: the next one tells
			send(t, fmt.Sprintf("8.8.8.8:%d", sent+1000), 1)
			sent++
		}
		if got > sent || time.Now().After(until) {
			t.Fatalf("%d of %d", got, sent)
		}
	}
}

// Whoever inherits the socket reads it, and cannot change what the rules are: with the rights of whoever opened it alone
// the kernel takes no orders.
func TestWhoHasTheSocketAndNoRightsChangesNothing(t *testing.T) {
	if os.Getenv(inside) == "" {
		again(t)
		return
	}
	socket := prepare(t)
	if socket < 0 {
		t.Skip("the kernel does not tell of refusals")
	}
	orders := map[string]func(*batch) uint32{
		"another group": func(b *batch) uint32 {
			return b.message(logConfig, syscall.NLM_F_ACK, generic(0, 7), func(b *batch) { b.attribute(1, []byte{1}) })
		},
		"no group": func(b *batch) uint32 {
			return b.message(logConfig, syscall.NLM_F_ACK, generic(0, refusalGroup), func(b *batch) { b.attribute(1, []byte{2}) })
		},
		"no table": func(b *batch) uint32 {
			const deleteTable = subsystem<<8 | 2
			b.message(batchBegin, 0, generic(0, subsystem), nil)
			last := b.message(deleteTable, syscall.NLM_F_ACK, generic(familyInet, 0), func(b *batch) { b.text(1, tableName) })
			b.message(batchEnd, 0, generic(0, subsystem), nil)
			return last
		},
		"the rules read": func(b *batch) uint32 {
			const getRule, dump = subsystem<<8 | 7, 0x300
			return b.message(getRule, syscall.NLM_F_ACK|dump, generic(familyInet, 0), nil)
		},
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with this test
	dropCapabilities(t)
	for name, order := range orders {
		var b batch
		if err := b.exchange(socket, order(&b), true); err != syscall.EPERM {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func dropCapabilities(t *testing.T) {
	t.Helper()
	header := struct {
		version uint32
		pid     int32
	}{version: 0x20080522}
	var none [6]uint32
	if _, _, e := syscall.Syscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0); e != 0 {
		t.Fatal(e)
	}
}

func TestAKernelThatTellsNothingGetsTheRulesAlone(t *testing.T) {
	if os.Getenv(inside) == "" {
		again(t)
		return
	}
	raiseLoopback(t)
	if err := routes(); err != nil {
		t.Fatal(err)
	}
	if err := ofAnyFamily(false); err != nil {
		t.Skip("the kernel has no nf_tables: ", err)
	}
	tellDestinations(t, "127.0.0.1:15001")
	if got := answered(t, "tcp", "1.2.3.4:80"); got != "1.2.3.4:80" {
		t.Errorf("heard %q", got)
	}
}

// BenchmarkInstall needs root, or a user namespace: unshare -r.
func BenchmarkInstall(b *testing.B) {
	b.Run("told", func(b *testing.B) { inNewNamespaces(b, Install) })
	b.Run("untold", func(b *testing.B) {
		inNewNamespaces(b, func() (int, error) {
			if err := routes(); err != nil {
				return -1, err
			}
			return -1, ofAnyFamily(false)
		})
	})
}

func inNewNamespaces(b *testing.B, install func() (int, error)) {
	runtime.LockOSThread()
	for range b.N {
		b.StopTimer()
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			b.Skip(err)
		}
		raiseLoopback(b)
		b.StartTimer()
		fd, err := install()
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		_ = syscall.Close(fd)
	}
}
