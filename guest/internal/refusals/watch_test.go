package refusals

import (
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// listening hears, unless it is deaf, and calls 8.8.8.8 by a name.
type listening struct {
	heard chan Refusal
	deaf  int
}

func (l *listening) HostOf(address netip.Addr) string {
	if address == netip.MustParseAddr("8.8.8.8") {
		return "dns.example"
	}
	return address.String()
}

func (l *listening) Tell(refusal Refusal) bool {
	if l.deaf > 0 {
		l.deaf--
		return false
	}
	l.heard <- refusal
	return true
}

func taking(l *listening) *watch { return &watch{listener: l} }

func counts(w *watch) map[string]int {
	found := map[string]int{}
	for _, each := range w.table.due(begin) {
		found[each.Host] += each.Count
	}
	return found
}

func TestHostsAreNamed(t *testing.T) {
	w := taking(&listening{})
	w.take(told(0, packet4(17, "8.8.8.8", ports...)), begin)
	w.take(told(1, packet4(17, "9.9.9.9", ports...)), begin)
	if got := counts(w); got["dns.example"] != 1 || got["9.9.9.9"] != 1 || len(got) != 2 {
		t.Error(got)
	}
}

func TestThoseThatWereLostAreCounted(t *testing.T) {
	w := taking(&listening{})
	w.take(told(2, packet4(17, "9.9.9.9", ports...)), begin) // 0 and 1 came before anybody listened
	w.take(told(3, packet4(17, "9.9.9.9", ports...)), begin)
	w.take(told(10, packet4(17, "9.9.9.9", ports...)), begin)
	if got := counts(w); got["9.9.9.9"] != 3 || got[Many] != 8 {
		t.Error(got)
	}
}

func TestNumbersBeginAnewAfterTheLast(t *testing.T) {
	w := taking(&listening{})
	w.number = 0xffffffff
	w.take(told(0xffffffff, packet4(17, "9.9.9.9", ports...)), begin)
	w.take(told(0, packet4(17, "9.9.9.9", ports...)), begin)
	w.take(told(2, packet4(17, "9.9.9.9", ports...)), begin)
	if got := counts(w); got["9.9.9.9"] != 3 || got[Many] != 1 {
		t.Error(got)
	}
}

func TestWhatCannotBeReadIsCounted(t *testing.T) {
	w := taking(&listening{})
	w.take(told(0, []byte{1, 2, 3}), begin)
	if got := counts(w); got[Many] != 1 {
		t.Error(got)
	}
}

// netlinkSocket is one on which nothing comes from the kernel.
func netlinkSocket(t *testing.T) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		t.Skip(err)
	}
	return fd
}

func TestOnlyTheKernelIsBelieved(t *testing.T) {
	fd := netlinkSocket(t)
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	forged := told(0, packet4(17, "8.8.8.8", ports...))
	if err := syscall.Sendto(fd, forged, 0, name); err != nil {
		t.Skip("nobody can forge here: ", err)
	}
	w := taking(&listening{})
	if datagram, err := w.receive(fd); err != nil || len(datagram) != 0 {
		t.Errorf("%x, %v", datagram, err)
	}
}

func TestABrokenSocketEndsTheWatch(t *testing.T) {
	ended := make(chan bool)
	go func() {
		Watch(-1, &listening{})
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}

func TestThereMayBeNobodyToHear(t *testing.T) {
	l := &listening{heard: make(chan Refusal, 1), deaf: 1}
	w := taking(l)
	w.take(told(0, packet4(17, "8.8.8.8", ports...)), begin)
	w.tell(begin)
	w.tell(begin.Add(patience))
	if got := <-l.heard; got.Host != "dns.example" || got.Count != 1 {
		t.Errorf("%+v", got)
	}
}
