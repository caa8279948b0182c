"""Runs inside a sandbox: what each kind of socket, and each trick with one, reaches. One line of JSON: name → outcome.

An outcome is the name of an errno, what a server of this program's own said, or a word. A server on the port of the
redirection says where a connection was going; where the guest has that port, connections end as it ends them."""

import contextlib
import errno
import json
import os
import socket
import struct
import sys
import threading

SECONDS = 5.0
#: nobody is to answer, so this passes
PING_SECONDS = 1.0
FOREIGN, FOREIGN6 = "203.0.113.9", "2001:db8::9"
REDIRECTED = 15001
#: of DNS: the address of example.org
QUESTION = struct.pack("!HHHHHH", 0x5EED, 0x100, 1, 0, 0, 0) + b"\7example\3org\0" + struct.pack("!HH", 1, 1)
#: family, kind and protocol that no program in a sandbox gets
KINDS = {
    "packet": (17, 3, 0), "packet_dgram": (17, 2, 0x0300), "vsock": (40, 1, 0), "vsock_dgram": (40, 2, 0),
    "netlink_netfilter": (16, 3, 12), "netlink_generic": (16, 3, 16), "netlink_xfrm": (16, 3, 6),
    "netlink_sock_diag": (16, 3, 4), "raw_icmp": (2, 3, 1), "raw_tcp": (2, 3, 6), "raw_any": (2, 3, 255),
    "raw_icmp6": (10, 3, 58), "sctp": (2, 1, 132), "sctp_packets": (2, 5, 132), "sctp6": (10, 1, 132),
    "packets_of_any": (2, 5, 0), "dccp": (2, 6, 33), "dccp_of_any": (2, 6, 0), "udplite": (2, 2, 136),
    "udplite6": (10, 2, 136), "l2tp": (2, 2, 115), "smc": (2, 1, 256), "smc_family": (43, 1, 0), "alg": (38, 5, 0),
    "xdp": (44, 3, 0), "key": (15, 3, 2), "tipc": (30, 1, 0), "rds": (21, 5, 0), "can": (29, 3, 1), "kcm": (41, 2, 0),
    "qipcrtr": (42, 2, 0), "bluetooth": (31, 3, 0), "pppox": (24, 2, 0), "llc": (26, 1, 0), "ipx": (4, 2, 0),
    "appletalk": (5, 2, 0), "x25": (9, 5, 0), "rxrpc": (33, 2, 2), "mctp": (45, 2, 0), "nfc": (39, 5, 0),
}  # fmt: skip


def named(error):
    return errno.errorcode.get(error.errno, type(error).__name__) if error.errno else type(error).__name__


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        return named(error)


def destination(connection):
    six = connection.family == socket.AF_INET6
    found = connection.getsockopt(socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, 80, 28)
    address = found[8:24] if six else found[4:8]
    return f"{socket.inet_ntop(connection.family, address)} {struct.unpack_from('!H', found, 2)[0]}"


def serve(family, address, port, say):
    """Whether this program has the port; `say` makes what a client hears."""
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        server.bind((address, port))
        server.listen(64)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    threading.Thread(target=greet, args=(server, say), daemon=True).start()
    return server.getsockname()[1]


def greet(server, say):
    while True:
        connection = server.accept()[0]
        with connection, contextlib.suppress(OSError):
            connection.sendall(say(connection).encode())


def answer(server):
    while True:
        data, sender = server.recvfrom(512)
        server.sendto(b"heard " + data, sender)


def serve_datagrams(address, port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        server.bind((address, port))
    except OSError as error:
        return named(error)
    threading.Thread(target=answer, args=(server,), daemon=True).start()
    return server.getsockname()[1]


def dial(target, *, options=(), source=None, protocol=0, kind=socket.SOCK_STREAM):
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, kind, protocol) as sock:
        sock.settimeout(SECONDS)
        for option in options:
            sock.setsockopt(*option)
        if source:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(source)
        sock.connect(target)
        if kind == socket.SOCK_DGRAM:
            sock.send(b"question")
        return sock.recv(100).decode() or "closed"


def fast_open(host, port):
    with socket.socket() as sock:
        sock.settimeout(SECONDS)
        try:
            sock.sendto(b"early", socket.MSG_FASTOPEN, (host, port))
        except OSError as error:
            # it is on its way
            if error.errno != errno.EINPROGRESS:
                raise
        return sock.recv(100).decode() or "closed"


def ask(connected):
    """The answer comes from whom it was asked of; whoever has the port here gives it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS)
        if connected:
            sock.connect((FOREIGN, 53))
            sock.send(QUESTION)
        else:
            sock.sendto(QUESTION, (FOREIGN, 53))
        said, sender = sock.recvfrom(512)
        return f"{'answer' if QUESTION[:2] in said else 'noise'} of {sender[0]} {sender[1]}"


def ping(family, target, protocol, echo):
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as sock:
        sock.settimeout(PING_SECONDS)
        sock.sendto(bytes([echo, 0, 0, 0, 0, 1, 0, 1]), (target, 0))
        return "answered" if sock.recv(100) else "closed"


def set_option(*option):
    with socket.socket() as sock:
        sock.setsockopt(*option)
    return "set"


def abstract_of(name):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + name)
    return "connected"


def request(kind, flags, body):
    """Of rtnetlink: what the kernel answers."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(SECONDS)
        sock.send(struct.pack("IHHII", 16 + len(body), kind, flags | 5, 1, 0) + body)
        number = -struct.unpack_from("i", sock.recv(4096), 16)[0]
        return errno.errorcode[number] if number else "done"


def remove_rules():
    """A batch of nf_tables that deletes the table."""
    name = struct.pack("HH7sx", 11, 1, b"cloche\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        sock.settimeout(SECONDS)
        messages = ((0x10, 0, b"\0\0\0\x0a"), (0xA02, 4, b"\1\0\0\0" + name), (0x11, 0, b"\0\0\0\x0a"))
        sock.send(b"".join(struct.pack("IHHII", 16 + len(body), kind, flags | 1, 1, 0) + body
                           for kind, flags, body in messages))  # fmt: skip
        number = -struct.unpack_from("i", sock.recv(4096), 16)[0]
        return errno.errorcode[number] if number else "done"


def changes():
    """Of what makes the redirection."""
    index = struct.pack("HHi", 8, 4, 1)
    everything = struct.pack("BBBBBBBBI", socket.AF_INET, 0, 0, 0, 255, 3, 254, 2, 0) + index
    own = struct.pack("HH4s", 8, 2, socket.inet_aton("198.18.0.1"))
    address = struct.pack("BBBBi", socket.AF_INET, 32, 0, 0, 1) + own
    link = struct.pack("BBHiII", 0, 0, 0, 1, 0, 1)
    return {
        "rules_removed": outcome(remove_rules),
        "route_removed": outcome(request, 25, 0, everything),
        "address_removed": outcome(request, 21, 0, address),
        "route_added": outcome(request, 24, 0x400, everything),
        "loopback_down": outcome(request, 16, 0, link),
    }


def connections():
    """Whatever a socket is told to do first, it arrives where the others do. name → what was heard, where it went."""
    elsewhere = bytes([131, 7, 4, 192, 0, 2, 1, 1])
    tricks = {
        "plain": (FOREIGN, 443, {}),
        "mapped": ("::ffff:" + FOREIGN, 444, {}),
        "private": ("10.1.2.3", 22, {}),
        "metadata": ("169.254.169.254", 80, {}),
        "low": (FOREIGN, 1, {}),
        "dns_by_tcp": (FOREIGN, 53, {}),
        "to_its_port": (FOREIGN, REDIRECTED, {}),
        "source_foreign": (FOREIGN, 445, {"source": ("203.0.113.77", 0)}),
        "source_loopback": (FOREIGN, 446, {"source": ("127.0.0.1", 0)}),
        "source_itself": (FOREIGN, 447, {"source": (FOREIGN, 0)}),
        "source_its_port": (FOREIGN, 448, {"source": ("203.0.113.78", REDIRECTED)}),
        "bound_to_device": (FOREIGN, 449, {"options": [(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")]}),
        "without_routes": (FOREIGN, 450, {"options": [(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)]}),
        "freely_bound": (FOREIGN, 451, {"options": [(socket.IPPROTO_IP, 15, 1)], "source": ("192.0.2.44", 0)}),
        "source_routed": (FOREIGN, 452, {"options": [(socket.IPPROTO_IP, socket.IP_OPTIONS, elsewhere)]}),
        "several_paths": (FOREIGN, 453, {"protocol": 262}),
        "fast_open": (FOREIGN, 454, None),
    }
    if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
        tricks |= {"six": (FOREIGN6, 455, {}), "six_link_local": ("fe80::9", 456, {})}
    return {name: (heard(*trick), f"{trick[0].removeprefix('::ffff:')} {trick[1]}") for name, trick in tricks.items()}


def heard(host, port, how):
    if how is None:
        return outcome(fast_open, host, port)
    target = (host, port, 0, 1) if host.startswith("fe80") else (host, port)
    return outcome(lambda: dial(target, **how))


def own():
    """The sandbox's own servers, at each of its own addresses."""
    everywhere, loopback = (serve(socket.AF_INET, address, 0, lambda _: "mine") for address in ("0.0.0.0", "127.0.0.1"))
    lines = {address: outcome(dial, (address, everywhere)) for address in
             ("127.0.0.1", "127.1.2.3", "0.0.0.0", "198.18.0.1", "localhost")}  # fmt: skip
    lines["loopback_alone"] = outcome(dial, ("127.0.0.1", loopback))
    with contextlib.suppress(OSError):
        lines["six"] = outcome(dial, ("::1", serve(socket.AF_INET6, "::", 0, lambda _: "mine")))
    lines["nobody"] = outcome(dial, ("127.0.0.1", 9))
    return lines


def datagrams():
    port = serve_datagrams("0.0.0.0", 0)
    targets = {
        "own": ("127.0.0.1", port), "own_address": ("198.18.0.1", port), "foreign": (FOREIGN, port),
        "foreign_web": (FOREIGN, 443), "given_out": ("198.18.0.9", 123), "six": (FOREIGN6, 443),
    }  # fmt: skip
    return {name: outcome(lambda each: dial(each, kind=socket.SOCK_DGRAM), each) for name, each in targets.items()}


def make(kind):
    socket.socket(*kind).close()
    return "made"


def main(neighbour):
    ports = [serve(socket.AF_INET, "127.0.0.1", REDIRECTED, destination)]
    with contextlib.suppress(OSError):
        ports.append(serve(socket.AF_INET6, "::1", REDIRECTED, destination))
    found = {
        "alone": None not in ports,
        "resolver": serve_datagrams("127.0.0.1", 53),
        "kinds": {name: outcome(make, kind) for name, kind in KINDS.items()},
        "connections": connections(),
        "own": own(),
        "datagrams": datagrams(),
        "questions": [outcome(ask, connected) for connected in (False, True)],
        "ping": outcome(ping, socket.AF_INET, FOREIGN, 1, 8),
        "ping6": outcome(ping, socket.AF_INET6, FOREIGN6, 58, 128),
        "mark": outcome(set_option, socket.SOL_SOCKET, 36, 1),
        "transparent": outcome(set_option, socket.IPPROTO_IP, 19, 1),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "abstract": outcome(abstract_of, neighbour),
        # the last: whoever may, does
        "changes": changes(),
    }
    print(json.dumps(found), flush=True)


main(sys.argv[1])
