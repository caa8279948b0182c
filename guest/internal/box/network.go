package box

import "syscall"

const netlinkSockDiag = 4

// openPorts lets everybody in the box listen on low ports of its own network: the guest on that of DNS where it has the
// id of user code and no capability, and user code on those of the web. It is written through the box's own /proc.
func openPorts(proc string) {
	_ = writeControl(proc+"/sys/net/ipv4/ip_unprivileged_port_start", "0")
}

// socketsFD is where the guest asks whose a connection is. The filter that comes next lets nobody open such a socket, so
// that user code never speaks to this part of the kernel. -1 where the kernel has none: then connections have no owners.
func socketsFD() int {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return -1
	}
	return fd
}
