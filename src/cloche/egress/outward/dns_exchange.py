"""One question to a DNS server: over UDP, and over TCP when the answer did not fit.

What reads messages is imported when it is needed: a door that asks the machine's resolver is smaller without it."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

#: of one try
_TRY_SECONDS = 3.0
_TRIES = 2
_MAX_MESSAGE_BYTES = 65535

#: address and port of a server
Server = tuple[str, int]


class DnsError(Exception):
    """No server has answered; the text says what happened."""


async def exchange(servers: list[Server], name: str, kind: str) -> tuple[bytes, int]:
    """The answer and the id that the question had. Raises DnsError, and dnswire.BadMessageError for an odd name."""
    from cloche.egress.outward import dnswire

    asked_id = secrets.randbelow(1 << 16)
    question = dnswire.ask(name, kind, asked_id)
    for server in servers * _TRIES:
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                return await _ask(server, question, dnswire.is_truncated), asked_id
        except (OSError, TimeoutError):
            continue
    raise DnsError("no DNS server answers")


async def _ask(server: Server, question: bytes, is_truncated: Callable[[bytes], bool]) -> bytes:
    answer = await _over_udp(server, question)
    return await _over_tcp(server, question) if is_truncated(answer) else answer


async def _over_udp(server: Server, question: bytes) -> bytes:
    """Only what the server itself sends arrives, for the socket is connected; answers to other questions are skipped,
    which somebody who guesses would send."""
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_DGRAM) as sock:
        await loop.sock_connect(sock, server)
        await loop.sock_sendall(sock, question)
        while True:
            answer = await loop.sock_recv(sock, _MAX_MESSAGE_BYTES)
            if answer[:2] == question[:2]:
                return answer


async def _over_tcp(server: Server, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_STREAM) as sock:
        await loop.sock_connect(sock, server)
        await loop.sock_sendall(sock, len(question).to_bytes(2, "big") + question)
        length = int.from_bytes(await _exactly(sock, 2), "big")
        return await _exactly(sock, length)


async def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        if not piece:
            raise ConnectionResetError("the DNS server has closed the connection")
        data += piece
    return data


def _socket(server: Server, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, kind)
    sock.setblocking(False)
    return sock


def machine_servers(path: str = "/etc/resolv.conf") -> list[Server]:
    """Those of the machine, at most three; its own when it names none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(64 << 10).splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    named = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [(address, 53) for address in named[:3]] or [("127.0.0.1", 53)]


def parse_server(text: str) -> Server:
    """Of "ip:port" or "[ip]:port"; without a port, 53."""
    address, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "53")
    return address.strip("[]"), int(port)
