package server

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloche/guest/internal/wire"
)

const (
	dialTimeout = 10 * time.Second
	upgradeName = "cloche-stream"
	switching   = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeName + "\r\n\r\n"
)

// halfCloser is a connection whose two directions end one by one.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func (s *server) dial(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "port", "host", "unix")
	port := q.integer("port", 10, 0)
	if q.has("unix") == q.has("port") {
		q.fail("port", "give either port or unix")
	}
	if q.has("port") && (port < 1 || port > 65535) {
		q.fail("port", "port must be from 1 to 65535")
	}
	if q.err != nil {
		return q.err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), upgradeName) {
		return wire.Invalid("a dial needs Connection: Upgrade and Upgrade: %s", upgradeName)
	}
	network, address := "unix", q.text("unix")
	if !q.has("unix") {
		host, err := ownAddress(q.text("host"))
		if err != nil {
			return err
		}
		network, address = "tcp", net.JoinHostPort(host, strconv.FormatInt(port, 10))
	}
	inner, err := net.DialTimeout(network, address, dialTimeout)
	if err != nil {
		return refusedDial(address, err)
	}
	defer inner.Close()
	return join(w, inner.(halfCloser))
}

// ownAddress is the host of a dial, when it is in here. To any other the kernel would lead us to our own end of the door:
// whoever dials would be connected, and not to where they believe.
func ownAddress(host string) (string, error) {
	if host == "" {
		return "127.0.0.1", nil
	}
	address, err := netip.ParseAddr(host)
	if err != nil || !isOwn(address.Unmap().WithZone("")) {
		return "", wire.Invalid("%q is no address of the sandbox, and only what listens in it can be dialled", host)
	}
	return address.Unmap().String(), nil
}

func isOwn(address netip.Addr) bool {
	if address.IsLoopback() || address.IsUnspecified() {
		return true
	}
	own, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(own, func(one net.Addr) bool {
		prefix, err := netip.ParsePrefix(one.String())
		return err == nil && prefix.Addr().Unmap() == address
	})
}

func refusedDial(address string, err error) error {
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		return wire.Errorf("permission_denied", "%v", err)
	}
	return wire.Errorf("not_found", "nothing listens on %s: %v", address, err)
}

// join answers 101 and carries bytes both ways until both directions have ended.
func join(w http.ResponseWriter, inner halfCloser) error {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	outer, ok := conn.(halfCloser)
	if !ok {
		return nil
	}
	_ = conn.SetDeadline(time.Time{})
	if _, err := conn.Write([]byte(switching)); err != nil {
		return nil
	}
	var both sync.WaitGroup
	both.Add(2)
	go func() { defer both.Done(); carry(inner, pending(buffered.Reader, outer), outer) }()
	go func() { defer both.Done(); carry(outer, inner, inner) }()
	both.Wait()
	return nil
}

// pending reads what the HTTP server has read ahead, then the connection.
func pending(ahead *bufio.Reader, conn net.Conn) io.Reader {
	if ahead.Buffered() == 0 {
		return conn
	}
	head, _ := ahead.Peek(ahead.Buffered())
	return io.MultiReader(strings.NewReader(string(head)), conn)
}

// carry copies until the source ends and passes that on. A target that is gone ends the source too.
func carry(to halfCloser, from io.Reader, source halfCloser) {
	buf := frameBuffers.Get().(*frameBuffer)
	defer frameBuffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf[:])
	_ = to.CloseWrite()
	if err != nil {
		_ = source.Close()
		_ = to.Close()
	}
}
