"""A guest's end of the door without a guest, and a door process without a node: both are played by the test."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cloche.egress import messages
from cloche.egress.messages import Attach, Counted, Detach, Happened, Ready, Reply, Setup, Stream
from cloche.model.egress import EgressPolicy

WAIT = 20.0


class GuestStream:
    """One parked stream that the test uses as the code's connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def head(self, **fields: Any) -> GuestStream:
        body = json.dumps(fields).encode()
        self.socket.sendall(struct.pack(">I", len(body)) + body)
        return self

    def answer(self) -> dict[str, Any]:
        length = int.from_bytes(self.exactly(4), "big")
        found = json.loads(self.exactly(length))
        assert isinstance(found, dict)
        return found

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError(data)
            data += piece
        return data

    def until(self, mark: bytes) -> bytes:
        data = b""
        while not data.endswith(mark):
            data += self.exactly(1)
        return data

    def rest(self) -> bytes:
        """Until the end, which a reset is, too."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := self.socket.recv(65536):
                data += piece
        return data

    def ask(self, data: bytes) -> bytes:
        """Send, say that this was all, and read to the end."""
        self.socket.sendall(data)
        self.socket.shutdown(socket.SHUT_WR)
        return self.rest()

    def close(self) -> None:
        self.socket.close()


class StandInGuest:
    """A guest's HTTP server on a unix socket: the control stream, parked streams, and `dial` for neighbours."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.controls: queue.Queue[socket.socket] = queue.Queue()
        self.parked: queue.Queue[socket.socket] = queue.Queue()
        self.dialled: Callable[[int], tuple[str, int]] | None = None
        self.connections = 0
        self._open: list[socket.socket] = []
        self._control: Any = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(512)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stream(self) -> GuestStream:
        while True:
            sock = self.parked.get(timeout=WAIT)
            # one that was parked for a control stream before this one has ended
            if not _has_ended(sock):
                return GuestStream(sock)

    def connect(self, host: str, port: int, via: str = "redirect", **more: Any) -> GuestStream:
        return self.stream().head(kind="connect", host=host, port=port, via=via, **more)

    def proxy(self) -> GuestStream:
        stream = self.stream().head(kind="proxy")
        assert stream.answer() == {"ok": True}
        return stream

    def control(self) -> socket.socket:
        """The newest control stream."""
        if self._control is None:
            self._control = self.controls.get(timeout=WAIT)
            self._lines = self._control.makefile("rb")
        sock: socket.socket = self._control
        return sock

    def say(self, **word: Any) -> None:
        self.control().sendall(json.dumps(word).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        self.control()
        line = self._lines.readline()
        assert line.endswith(b"\n"), "the control stream has ended"
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def resolve(self, name: str, number: int = 1) -> str:
        self.say(op="resolve", id=number, name=name)
        answer = self.hear()
        assert answer["op"] == "resolved" and answer["id"] == number
        return str(answer["verdict"])

    def forget(self) -> None:
        """The next control stream is another; what was parked for this one is gone."""
        assert self._control.recv(1) == b""
        self._lines.close()
        self._control = None
        while not self.parked.empty():
            self.parked.get()

    def reset(self) -> None:
        """As after a restore: every stream has ended."""
        self.control()
        open_ones, self._open = self._open, []
        for sock in open_ones:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.forget()
        self.control()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WAIT)
        if self._control is not None:
            self._lines.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(WAIT)
            self.connections += 1
            self._open.append(sock)
            with contextlib.suppress(OSError):
                self._upgrade(sock)

    def _upgrade(self, sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = sock.recv(4096)
            if not piece:
                return
            head += piece
        target = head.split(b" ", 2)[1].decode()
        if target.startswith("/v1/dial?"):
            self._dial(sock, int(parse_qs(urlsplit(target).query)["port"][0]))
            return
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: cloche-door\r\n\r\n")
        (self.controls if "control=1" in target else self.parked).put(sock)

    def _dial(self, sock: socket.socket, port: int) -> None:
        if self.dialled is None:
            sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        inside = socket.create_connection(self.dialled(port), WAIT)
        self._open.append(inside)
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: cloche-stream\r\n\r\n")
        for source, target in ((sock, inside), (inside, sock)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _has_ended(sock: socket.socket) -> bool:
    """Nothing else comes on a parked stream."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class DoorProcess:
    """The test is its node."""

    def __init__(self, home: Path, environment: dict[str, str] | None = None, **setup: Any) -> None:
        self.home = home
        self.happened: queue.Queue[Happened] = queue.Queue()
        self.counted: queue.Queue[Counted] = queue.Queue()
        self.streams: queue.Queue[Stream] = queue.Queue()
        self._replies: queue.Queue[Reply | Ready] = queue.Queue()
        self._next = 0
        self._attached: list[str] = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cloche.egress.door", "--control-fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=_plain_environment() | (environment or {}),
                stdin=subprocess.DEVNULL,
                stderr=(home / "door.log").open("wb"),
            )
        self.socket = ours
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.send(Setup(home=str(home), **setup))
        ready = self._replies.get(timeout=WAIT)
        assert isinstance(ready, Ready), self.log()
        self.ready = ready

    def send(self, message: messages.Message, descriptors: list[int] | None = None) -> None:
        socket.send_fds(self.socket, [messages.encode(message)], descriptors or [])

    def ask(self, kind: type[messages.Message], **fields: Any) -> dict[str, Any]:
        reply = self.reply(kind, **fields)
        assert reply.error is None, reply.error
        return reply.data

    def reply(self, kind: type[messages.Message], **fields: Any) -> Reply:
        self._next += 1
        self.send(kind(id=self._next, **fields))
        reply = self._replies.get(timeout=WAIT)
        assert isinstance(reply, Reply) and reply.id == self._next
        return reply

    def attach(
        self, guest: StandInGuest | None, policy: EgressPolicy | None, sandbox_id: str = "sb_1", **fields: Any
    ) -> None:
        fields = {"name": "box", "socket": guest.path if guest is not None else None} | fields
        self.ask(Attach, sandbox_id=sandbox_id, policy=policy, **fields)
        self._attached.append(sandbox_id)

    def detach_all(self) -> None:
        """So that everything that was open is over, and written down."""
        while self._attached:
            self.ask(Detach, sandbox_id=self._attached.pop())

    def event(self, kind: str) -> dict[str, Any]:
        """The next of this kind; others before it are passed over."""
        while True:
            happened = self.happened.get(timeout=WAIT)
            if happened.kind == kind:
                return happened.data

    def log(self) -> str:
        return (self.home / "door.log").read_text()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        try:
            self.process.wait(WAIT)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(WAIT)
            self._thread.join(WAIT)

    def _read(self) -> None:
        queues = {Happened: self.happened, Counted: self.counted, Stream: self.streams}
        while True:
            try:
                data = self.socket.recv(messages.MAX_MESSAGE_BYTES)
            except OSError:
                return
            if not data:
                return
            message = messages.from_door(data)
            target: Any = queues.get(type(message), self._replies)
            target.put(message)


def _plain_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    source = str(Path(messages.__file__).parents[2])
    return kept | {"PYTHONPATH": source}


@contextlib.contextmanager
def door_process(environment: dict[str, str] | None = None, **setup: Any) -> Iterator[DoorProcess]:
    home = Path(tempfile.mkdtemp(prefix="cloche-door-"))
    try:
        door = DoorProcess(home, environment, **setup)
        try:
            yield door
        finally:
            door.close()
        # what it logs is a fault of its own
        log = door.log()
        assert log == "", log
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def stand_in_guest() -> Iterator[StandInGuest]:
    directory = tempfile.mkdtemp(prefix="cloche-guest-")
    guest = StandInGuest(f"{directory}/guest.sock")
    try:
        yield guest
    finally:
        guest.close()
        shutil.rmtree(directory)
