package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Ports are where the inner end listens on loopback; 0 is any that is free.
type Ports struct{ Proxy, SOCKS, Redirect, DNS int }

// Usual are those of every sandbox.
var Usual = Ports{Proxy: 15080, SOCKS: 15081, Redirect: 15001, DNS: 53}

// Listener is what came of one of them. `Error` is empty when it listens.
type Listener struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Error     string   `json:"error,omitempty"`
}

type listeners struct {
	mu   sync.Mutex
	told []Listener
	open []io.Closer
}

// Listeners tells where code can come, and where not.
func (d *Door) Listeners() []Listener {
	d.listeners.mu.Lock()
	defer d.listeners.mu.Unlock()
	return append([]Listener{}, d.listeners.told...)
}

// Close ends the listeners; connections stay.
func (d *Door) Close() {
	d.listeners.mu.Lock()
	defer d.listeners.mu.Unlock()
	for _, open := range d.listeners.open {
		_ = open.Close()
	}
}

func (d *Door) listen(ports Ports) {
	d.listeners.mu.Lock()
	defer d.listeners.mu.Unlock()
	d.keep("proxy", d.both(ports.Proxy, d.serveProxy))
	d.keep("socks", d.both(ports.SOCKS, d.serveSOCKS))
	if d.config.Redirect {
		d.keep("redirect", d.both(ports.Redirect, d.serveRedirect))
	}
	d.keep("dns", d.dnsPort(ports.DNS))
}

// opened is what listens, and what should and does not.
type opened struct {
	these []io.Closer
	errs  []error
}

func (d *Door) keep(name string, got opened) {
	told := Listener{Name: name, Addresses: []string{}}
	for _, each := range got.these {
		if listener, ok := each.(net.Listener); ok {
			told.Addresses = append(told.Addresses, listener.Addr().String())
		}
	}
	if err := errors.Join(got.errs...); err != nil {
		told.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	d.listeners.told = append(d.listeners.told, told)
	d.listeners.open = append(d.listeners.open, got.these...)
}

// both is IPv4 and IPv6. A kernel without the second is no failure.
func (d *Door) both(port int, serve func(*net.TCPConn)) (got opened) {
	first, err := d.tcp("tcp4", "127.0.0.1", port, serve)
	if err != nil {
		return opened{errs: []error{err}}
	}
	got.these = append(got.these, first)
	second, err := d.tcp("tcp6", "::1", first.Addr().(*net.TCPAddr).Port, serve)
	if err == nil {
		got.these = append(got.these, second)
	} else if !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT) {
		got.errs = append(got.errs, err)
	}
	return got
}

func (d *Door) tcp(network, host string, port int, serve func(*net.TCPConn)) (*net.TCPListener, error) {
	config := net.ListenConfig{KeepAlive: -1} // nobody is lost between two ends on one machine
	listener, err := config.Listen(context.Background(), network, net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("%s port %d: %w", host, port, err)
	}
	tcp := listener.(*net.TCPListener)
	go d.accept(tcp, serve)
	return tcp, nil
}

func (d *Door) dnsPort(port int) (got opened) {
	listener, err := d.tcp("tcp4", "127.0.0.1", port, d.serveDNSOverTCP)
	if err != nil {
		return opened{errs: []error{err}}
	}
	at := listener.Addr().(*net.TCPAddr)
	packets, err := net.ListenUDP("udp4", &net.UDPAddr{IP: at.IP, Port: at.Port})
	if err != nil {
		return opened{[]io.Closer{listener}, []error{err}}
	}
	go d.serveDNS(packets)
	return opened{these: []io.Closer{listener, packets}}
}

const acceptPause = 20 * time.Millisecond

// accept serves each connection on a goroutine of its own, and resets those that are too many.
func (d *Door) accept(listener *net.TCPListener, serve func(*net.TCPConn)) {
	for {
		code, err := listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause) // no descriptors: what is open now ends some time
			continue
		}
		if !d.enter() {
			reset(code)
			continue
		}
		go func() {
			defer d.leave()
			defer code.Close()
			serve(code)
		}()
	}
}
