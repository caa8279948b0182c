"""The host's end of a guest's door (guest/README.md, "The door"), as simple as it can be: threads, and no policy."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.message

PATIENCE_SECONDS = 30.0
HEADERS = "Host: guest\r\nConnection: Upgrade\r\nUpgrade: cloche-door\r\nContent-Length: 0"
OK: dict[str, object] = {"ok": True}


@dataclass(frozen=True)
class Arrived:
    """One connection of the code: what the guest says of it, and its bytes."""

    head: dict[str, Any]
    stream: socket.socket

    def answer(self, verdict: dict[str, object] = OK) -> None:
        self.stream.sendall(framed(verdict))


def framed(value: dict[str, object]) -> bytes:
    body = json.dumps(value).encode()
    return struct.pack(">I", len(body)) + body


def echo(arrived: Arrived) -> None:
    """Answer yes, say back what comes, and end where the code does."""
    arrived.answer()
    while data := arrived.stream.recv(1 << 16):
        arrived.stream.sendall(data)
    arrived.stream.shutdown(socket.SHUT_WR)


@dataclass
class DoorStub:
    """`serve` gets each connection on a thread of its own; `resolve` says "yes", "no" or "fail" for a name; `query`
    answers DNS questions of other types. Without `refill` it parks only what the guest says it needs. What the guest
    said is in `words`, what it used in `heads`."""

    path: Path
    serve: Callable[[Arrived], None] = echo
    resolve: Callable[[str], str] = lambda name: "yes"
    query: Callable[[dns.message.Message], dns.message.Message] = dns.message.make_response
    parked: int = 4
    refill: bool = True
    words: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, Any]] = field(default_factory=list)
    named: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._writing = threading.Lock()
        self._control = self._upgrade("/v1/door?control=1")
        self._start(self._hear)
        for _ in range(self.parked):
            self.park()

    def park(self) -> socket.socket:
        """One stream more; its thread waits for the guest to use it."""
        stream = self._upgrade("/v1/door")
        self._start(self._parked, stream)
        return stream

    def ask_name(self, address: str) -> str | None:
        """To which name an address of the sandbox was given."""
        self._say({"op": "name", "id": 1, "address": address})
        with self._changed:
            assert self._changed.wait_for(lambda: self.named, PATIENCE_SECONDS)
            return self.named.pop()

    def wait(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, PATIENCE_SECONDS), (self.words, self.heads)

    def close(self) -> None:
        """As a door that dies: everything ends at once."""
        self._closed = True
        with self._changed:
            streams = list(self._open)
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        for stream in streams:
            stream.close()

    def _upgrade(self, target: str) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(PATIENCE_SECONDS)
        stream.connect(str(self.path))
        stream.sendall(f"POST {target} HTTP/1.1\r\n{HEADERS}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = stream.recv(1)
            assert piece, head
            head += piece
        assert head.startswith(b"HTTP/1.1 101 "), head
        stream.settimeout(None)
        with self._changed:
            self._open.add(stream)
        return stream

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _parked(self, stream: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error):
            (length,) = struct.unpack(">I", stream.recv(4, socket.MSG_WAITALL))
            head = json.loads(stream.recv(length, socket.MSG_WAITALL))
            self._heard(self.heads, head)
            if self.refill:
                self._start(self._park_again)
            self.serve(Arrived(head, stream))
        with self._changed:
            self._open.discard(stream)
        stream.close()

    def _park_again(self) -> None:
        try:
            self.park()
        except (OSError, AssertionError) as error:
            # the guest says how many wait, and some of those are served meanwhile
            if not self._closed and "429" not in str(error):
                raise

    def _heard(self, where: list[dict[str, Any]], what: dict[str, Any]) -> None:
        with self._changed:
            where.append(what)
            self._changed.notify_all()

    def _hear(self) -> None:
        with contextlib.suppress(OSError), self._control.makefile("rb") as lines:
            for line in lines:
                word = json.loads(line)
                self._heard(self.words, word)
                self._start(self._answer, word)

    def _answer(self, word: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            match word["op"]:
                case "need":
                    for _ in range(word["streams"]):
                        self._park_again()
                case "resolve":
                    self._say({"op": "resolved", "id": word["id"], "verdict": self.resolve(word["name"])})
                case "query":
                    message = self.query(dns.message.from_wire(base64.b64decode(word["message"]))).to_wire()
                    self._say({"op": "answer", "id": word["id"], "message": base64.b64encode(message).decode()})
                case "named":
                    with self._changed:
                        self.named.append(word["name"])
                        self._changed.notify_all()

    def _say(self, word: dict[str, object]) -> None:
        with self._writing:
            self._control.sendall(json.dumps(word).encode() + b"\n")


@contextlib.contextmanager
def door(path: Path, **how: Any) -> Iterator[DoorStub]:
    made = DoorStub(path, **how)
    try:
        yield made
    finally:
        made.close()
