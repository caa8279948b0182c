"""Connections of both halves to a node that answers, cuts and closes as it is told."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloche.model.errors import NoSpaceError, TimedOutError
from cloche.sdk._async.transport import AsyncTransport
from cloche.sdk._sync.transport import Transport
from cloche.sdk.wire import ConnectionLostError

HEAD = b"HTTP/1.1 200 OK\r\nCloche-Api-Version: 1\r\n"
WHOLE = HEAD + b"Content-Length: 2\r\n\r\nhi"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"


class Script:
    """Listens as a node. Each connection takes the next of `plans`: its answers, one for each request, and then the
    connection is closed; None keeps it open without a word."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.plans: list[list[bytes | None]] = []
        self.requests: list[list[bytes]] = []
        self.ended = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(home / "node.sock"))
        self._listening.listen(8)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self.ended.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            data = _request(connection)
            if not data:
                return  # the look whether a node listens
            answers, seen = self.plans.pop(0), list[bytes]()
            self.requests.append(seen)
            for number, answer in enumerate(answers):
                data = data if number == 0 else _request(connection)
                seen.append(data)
                if answer is None:
                    self.ended.wait(30)
                elif data:
                    connection.sendall(answer)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while not _is_whole(data):
        try:
            part = connection.recv(65536)
        except ConnectionError:
            return b""
        if not part:
            return b""
        data += part
    return data


def _is_whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if b"chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
    return bool(found) and len(body) >= int(length or 0)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    made = Script(tmp_path / "home")
    yield made
    made.close()


class Blocking:
    def __init__(self, home: Path) -> None:
        self.real = Transport(home)

    def ask(self, *args: Any, **kw: Any) -> bytes:
        return self.real.ask(*args, **kw)

    def pieces(self, parts: list[bytes]) -> Iterator[bytes]:
        return iter(parts)

    def close(self) -> None:
        self.real.close()


class Looping:
    """The asynchronous half, driven from outside."""

    def __init__(self, home: Path) -> None:
        self._runner = asyncio.Runner()
        self.real = AsyncTransport(home)

    def ask(self, *args: Any, **kw: Any) -> bytes:
        return self._runner.run(self.real.ask(*args, **kw))

    async def pieces(self, parts: list[bytes]) -> Any:
        for part in parts:
            yield part

    def close(self) -> None:
        self._runner.run(self.real.aclose())
        self._runner.close()


@pytest.fixture(params=[Blocking, Looping], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, script: Script, tmp_path: Path) -> Iterator[Any]:
    made: Callable[[Path], Any] = request.param
    transport = made(tmp_path / "home")
    yield transport
    transport.close()


def test_a_connection_is_used_again(script: Script, client: Any) -> None:
    script.plans = [[WHOLE, CHUNKED, WHOLE, WHOLE]]
    assert [client.ask("GET", "/v1/x") for _ in range(3)] == [b"hi"] * 3
    assert client.ask("PUT", "/v1/x", content=b"y" * 200_000) == b"hi"
    assert len(script.requests) == 1
    assert script.requests[0][3].endswith(b"y" * 200_000)


def test_bodies_go_out_as_they_are_given(script: Script, client: Any) -> None:
    script.plans = [[WHOLE, WHOLE, WHOLE]]
    client.ask("POST", "/v1/x", json={"a": "\udcff"})
    client.ask("POST", "/v1/x", content=client.pieces([b"one", b"", b"three"]))
    client.ask("POST", "/v1/x")
    first, second, third = script.requests[0]
    assert first.endswith(b'\r\n\r\n{"a":"\\udcff"}') and b"Content-Type: application/json\r\n" in first
    assert second.endswith(b"\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")
    assert b"Content-Length: 0\r\n" in third


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED], ids=["length", "chunks"])
def test_an_answer_that_is_cut_anywhere(script: Script, client: Any, answer: bytes) -> None:
    for size in range(len(answer)):
        script.plans = [[answer[:size]]]
        with pytest.raises(ConnectionLostError):
            client.ask("POST", "/v1/x")
        script.plans = [[answer[:size]], [WHOLE]]
        if size < answer.index(b"\r\n\r\n") + 4:
            # whoever only asks may ask again, as long as nothing was handed out
            assert client.ask("GET", "/v1/x") == b"hi"
        else:
            with pytest.raises(ConnectionLostError):
                client.ask("GET", "/v1/x")


def test_what_is_not_http_is_a_lost_connection(script: Script, client: Any) -> None:
    script.plans = [[b"SSH-2.0-x\r\n\r\n"]]
    with pytest.raises(ConnectionLostError):
        client.ask("POST", "/v1/x")


CLOSING = WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("first", [CLOSING, WHOLE + b"more", WHOLE], ids=["told", "surplus", "closed later"])
def test_a_connection_that_is_over_is_not_used_again(script: Script, client: Any, first: bytes) -> None:
    script.plans = [[first], [WHOLE]]
    assert client.ask("POST", "/v1/x") == b"hi"
    if first is WHOLE:
        assert select.select([client.real._idle[0][1]._sock], [], [], 10)[0]
    assert client.ask("POST", "/v1/x") == b"hi"
    assert [len(seen) for seen in script.requests] == [1, 1]


def test_silence_is_a_timeout_and_ends_the_connection(script: Script, client: Any) -> None:
    script.plans = [[None]]
    with pytest.raises(TimedOutError):
        client.ask("POST", "/v1/x", seconds=0.05)
    assert client.real._idle == []


def test_nobody_listens(script: Script, client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client.real, "_socket", str(tmp_path / "nobody"))
    script.plans = [[WHOLE]]
    # it was never sent, so a node is looked for, and it is sent there
    assert client.ask("POST", "/v1/x") == b"hi"


def test_an_error_before_the_body_was_taken(script: Script, client: Any) -> None:
    body = b'{"error":{"code":"no_space","message":"no"}}'
    script.plans = [[b"HTTP/1.1 507 No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)]]
    with pytest.raises(NoSpaceError):
        client.ask("PUT", "/v1/x", content=client.pieces([b"x" * 100] * 10))
