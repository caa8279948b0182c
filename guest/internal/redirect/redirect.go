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
// A kernel without IPv6, or with it turned off, gets the rest. `refusals` is a socket with a message for each packet
// that is refused here (package refusals reads it), or -1 where the kernel has no such thing: then nobody is told.
func Install() (refusals int, err error) {
	if err := routes(); err != nil {
		return -1, os.NewSyscallError("routes", err)
	}
	refusals, err = listenForRefusals()
	if err == nil {
		if err = ofAnyFamily(true); err == nil {
			return refusals, nil
		}
		_ = syscall.Close(refusals)
	}
	return -1, os.NewSyscallError("nf_tables", ofAnyFamily(false))
}

func ofAnyFamily(told bool) error {
	err := table(familyInet, told)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.ENOENT) {
		// what this kernel lacks may be the other family only
		err = table(familyIPv4, told)
	}
	return err
}
