"""Connections to anything. What the host listens on is told in FACTS."""

import errno
import os
import socket
import struct

from probing import Absent, Refused, fact, leaked, many, probe

TIMEOUT = 2.0
ADDRESSES = {
    "public": ("1.1.1.1", 443),
    "public_web": ("93.184.215.14", 80),
    "private_10": ("10.0.0.1", 80),
    "private_172": ("172.17.0.1", 80),
    "private_192": ("192.168.0.1", 80),
    "metadata": ("169.254.169.254", 80),
    "multicast": ("224.0.0.1", 5353),
    "public_6": ("2606:4700:4700::1111", 443),
    "local_6": ("fe80::1", 80),
}
FAMILIES = {
    "packet": (17, 3),
    "vsock": (40, 1),
    "alg": (38, 5),
    "key": (15, 3),
    "xdp": (44, 3),
    "can": (29, 3),
    "bluetooth": (31, 3),
    "tipc": (30, 1),
    "rds": (21, 5),
    "x25": (9, 5),
    "netrom": (6, 5),
    "llc": (26, 1),
    "kcm": (41, 5),
    "qipcrtr": (42, 2),
    "smc": (43, 1),
    "rxrpc": (33, 2),
    "ax25": (3, 2),
    "nfc": (39, 5),
    "ieee802154": (36, 2),
    "isdn": (34, 3),
    "phonet": (35, 2),
    "mctp": (45, 2),
}
NETLINK = {
    "usersock": 2,
    "sock_diag": 4,
    "xfrm": 6,
    "selinux": 7,
    "audit": 9,
    "fib_lookup": 10,
    "connector": 11,
    "netfilter": 12,
    "uevent": 15,
    "generic": 16,
    "crypto": 21,
}


def _family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _answer(kind, target):
    """Whoever connects to anything is connected to the sandbox's own guest: an answer is what would be a way out."""
    with socket.socket(_family(target[0]), kind) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(target)
        sock.send(b"GET / HTTP/1.0\r\n\r\n")
        if not sock.recv(1):
            raise Refused("the connection was closed without a word")


@many("tcp", ADDRESSES)
def tcp(target):
    _answer(socket.SOCK_STREAM, target)


@many("udp", ADDRESSES)
def udp(target):
    _answer(socket.SOCK_DGRAM, target)


@many("host_tcp", {name: name for name in ("127.0.0.1", "::1", "0.0.0.0", "localhost")})
def host_tcp(address):
    socket.create_connection((address, fact("tcp_port")), TIMEOUT).close()


@probe
def host_tcp_by_own_addresses():
    last = Absent("the host has no address")
    for address in fact("addresses"):
        try:
            _answer(socket.SOCK_STREAM, (address, fact("tcp_port")))
        except (OSError, Refused) as error:
            last = error
        else:
            return address
    raise last


@probe
def host_udp():
    """A send to loopback works; somebody must answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", fact("udp_port")))
        sock.send(b"ping")
        return sock.recv(16)


@probe
def host_abstract_socket():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + fact("abstract"))


@probe
def host_path_socket():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(fact("socket_path"))


@many(
    "well_known",
    {
        "docker": "/var/run/docker.sock",
        "dbus": "/run/dbus/system_bus_socket",
        "systemd": "/run/systemd/private",
        "containerd": "/run/containerd/containerd.sock",
        "x11": "/tmp/.X11-unix/X0",
    },
)
def well_known(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)


@probe
def other_sandbox_tcp():
    socket.create_connection(("127.0.0.1", fact("other_port")), TIMEOUT).close()


@probe
def other_sandbox_abstract():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + fact("other_abstract"))


@probe
def interfaces():
    return leaked([name for _, name in socket.if_nameindex() if name != "lo"], "interface")


@probe
def routes():
    with open("/proc/net/route") as file:
        return leaked(file.readlines()[1:], "route")


@probe
def foreign_sockets():
    """/proc/net/unix of the host names every socket's path."""
    with open("/proc/net/unix") as file:
        return leaked([line for line in file.readlines()[1:] if len(line.split()) > 7], "named socket")


@probe
def resolve():
    return socket.getaddrinfo("example.com", 80)


@probe
def ping_socket():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(TIMEOUT)
        sock.sendto(b"\x08\0\xf7\xff\0\0\0\0", ("1.1.1.1", 0))


@many("raw", {"icmp": 1, "tcp": 6, "raw": 255}, safe=True)
def raw(protocol):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol).close()


@many("family", FAMILIES)
def family(wanted):
    socket.socket(*wanted).close()


@many("netlink", NETLINK)
def netlink(protocol):
    socket.socket(16, socket.SOCK_RAW, protocol).close()


@probe(safe=True)
def netlink_adds_an_interface():
    """RTM_NEWLINK of a bridge: needs rights over the network namespace."""
    name, kind = b"clprobe0\0", b"bridge"
    attributes = struct.pack("HH", 4 + len(name), 3) + name + b"\0" * (-len(name) % 4)
    inner = struct.pack("HH", 4 + len(kind), 1) + kind + b"\0" * (-len(kind) % 4)
    attributes += struct.pack("HH", 4 + len(inner), 18) + inner
    body = struct.pack("BBHiII", 0, 0, 0, 0, 0, 0) + attributes
    message = struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body
    with socket.socket(16, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, 0))
        sock.send(message)
        number = struct.unpack_from("i", sock.recv(4096), 16)[0]
    if number:
        raise OSError(-number, os.strerror(-number))


@probe
def set_an_address():
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sHH4s8x", b"lo", socket.AF_INET, 0, socket.inet_aton("10.9.8.7"))
        fcntl.ioctl(sock, 0x8916, request)


@probe
def socketpair_of_another_family():
    socket.socketpair(30, socket.SOCK_STREAM)


@probe
def low_port_of_the_host():
    """Binding works inside: it is the box's own port 80. The host must not see it: asked by the suite from outside."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", fact("tcp_port")))
    raise Refused(f"its own port, {errno.errorcode[errno.EADDRINUSE]} would mean the host's")
