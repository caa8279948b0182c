"""A DNS server on loopback that answers what a test says, UDP and TCP, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer:
    """`zone`: name → (kind → answers). Each answer is a list of records; every question takes the next one, and the
    last stays. A name that is not there does not exist; `silent` names get no answer at all."""

    def __init__(self) -> None:
        self._udp, self._tcp = _same_port()
        self.address = "{}:{}".format(*self._udp.getsockname())
        self.zone: dict[str, dict[str, list[list[str]]]] = {}
        self.silent: set[str] = set()
        self.truncated: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def add(self, name: str, *answers: list[str] | str, kind: str = "A") -> None:
        lists = [[answer] if isinstance(answer, str) else answer for answer in answers]
        self.zone.setdefault(name, {})[kind] = lists

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        # a datagram socket that waits is woken by a datagram only
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._udp.getsockname())
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                data, client = self._udp.recvfrom(65535)
            except OSError:
                return
            if not data:
                return
            answer = self._answer(data, over_udp=True)
            if answer is not None:
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                file = connection.makefile("rb")
                answer = self._answer(file.read(int.from_bytes(file.read(2), "big")), over_udp=False)
                if answer is not None:
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, data: bytes, *, over_udp: bool) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if name in self.silent:
            return None
        answer = dns.message.make_response(query)
        if over_udp and name in self.truncated:
            answer.flags |= dns.flags.TC
            return answer.to_wire()
        known = self.zone.get(name)
        if known is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif kind in known:
            lists = known[kind]
            records = lists.pop(0) if len(lists) > 1 else lists[0]
            if records:
                answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", kind, *records))
        return answer.to_wire()


def _same_port() -> tuple[socket.socket, socket.socket]:
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp


@contextlib.contextmanager
def dns_server() -> Iterator[DnsServer]:
    server = DnsServer()
    try:
        yield server
    finally:
        server.close()
