// Package redirect makes a network namespace that has only loopback take every connection to any address, so that
// programs which know no proxy reach the guest's inner end of the door.
//
// It is a convenience and no wall: there is no interface by which anything could leave, whatever the rules say. Code that
// got around them would talk to itself.
package redirect

import (
	"errors"
	"os"
	"syscall"
)

// Ports of the guest on loopback, of both families.
const (
	TCPPort = 15001
	DNSPort = 53
)

// Own is the address that loopback has beside 127.0.0.1: without one, resolvers believe that the machine has no IPv4
// and ask for none. The sandbox talks to itself by it as by 127.0.0.1.
var Own = [4]byte{198, 18, 0, 1}

// Environment tells the guest that it is there.
const Environment = "CLOCHE_REDIRECT=1"

// Install needs CAP_NET_ADMIN over the network namespace that it is called in, whose loopback is up. When it fails the
// namespace is as good as before: programs that know a proxy work.
//
// A kernel without IPv6, or with it turned off, gets the rest.
func Install() error {
	if err := routes(); err != nil {
		return os.NewSyscallError("routes", err)
	}
	err := table(familyInet)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.ENOENT) {
		// what this kernel lacks may be the other family only
		err = table(familyIPv4)
	}
	return os.NewSyscallError("nf_tables", err)
}
