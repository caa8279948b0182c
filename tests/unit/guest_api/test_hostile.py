"""What the client makes of a guest that answers with whatever it likes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from cloche.engines.fake.streams import MemoryChannel, MemoryStream, pair
from cloche.guest_api import Guest, transport
from cloche.guest_api.frames import EXITED, STDOUT, Frame, encode
from cloche.model.errors import (
    ClocheError,
    GuestError,
    NotFoundError,
    SandboxDeadError,
    TimedOutError,
    VersionMismatchError,
)
from cloche.model.process import ProcessSpec

pytestmark = pytest.mark.anyio
HEALTH = {"api_version": 1, "guest_version": "1", "sandbox_id": "sb", "nonce": "n"}
ID = "p_" + "0" * 26


class Liar:
    """A guest that answers every request with the same bytes."""

    def __init__(self) -> None:
        self.answer: Callable[[], AsyncIterator[bytes]] = lambda: nothing()
        self.seen = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self) -> MemoryStream:
        ours, theirs = pair()
        task = asyncio.get_running_loop().create_task(self._serve(theirs))
        self._tasks.add(task)
        return ours

    async def _serve(self, stream: MemoryStream) -> None:
        try:
            self.seen = await stream.read(65536)
            async for chunk in self.answer():
                await stream.write(chunk)
            await stream.close()
        except ConnectionError:
            pass

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def says(*chunks: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def answer() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return answer


def http(body: bytes, status: int = 200, extra: bytes = b"") -> Callable[[], AsyncIterator[bytes]]:
    return says(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), extra), body)


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    made = Liar()
    yield made
    made.stop()


@pytest.fixture
async def guest(liar: Liar) -> AsyncIterator[Guest]:
    async with Guest(MemoryChannel(liar.connect)) as client:
        yield client


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(b"SSH-2.0-x\r\n\r\n"), GuestError),
        (says(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 300_000), GuestError),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), GuestError),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"), SandboxDeadError),
        (says(b"HTTP/1.1 200"), SandboxDeadError),
        (nothing, SandboxDeadError),
        (http(b"not json"), GuestError),
        (http(b"[]"), GuestError),
        (http(b"[" * 1_000_000), GuestError),
        (http(json.dumps({**HEALTH, "nonce": "x" * 10_000}).encode()), GuestError),
        (http(json.dumps({**HEALTH, "uptime_seconds": -1}).encode()), GuestError),
        (http(json.dumps({**HEALTH, "users": ["x"] * 10_000}).encode()), GuestError),
        (http(json.dumps({**HEALTH, "api_version": 2}).encode()), VersionMismatchError),
        (http(b"", 500), GuestError),
        (http(b"{}", 302, b"Location: http://elsewhere/\r\n"), GuestError),
        (http(b'{"error":{"code":"not_found","message":"no"}}', 404), NotFoundError),
        (http(b'{"error":{"code":"sandbox_dead","message":"no"}}', 410), GuestError),
        (http(b'{"error":{"code":"' + b"x" * 2_000_000 + b'"}}', 404), GuestError),
    ],
)  # fmt: skip
async def test_health_of_a_liar(
    guest: Guest, liar: Liar, answer: Callable[[], AsyncIterator[bytes]], error: type[ClocheError]
) -> None:
    liar.answer = answer
    with pytest.raises(error) as caught:
        await guest.health()
    assert type(caught.value) is error


async def test_an_answer_without_end_is_cut_off(guest: Guest, liar: Liar) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"10000\r\n" + b" " * 65536 + b"\r\n"

    liar.answer = endless
    with pytest.raises(GuestError, match="larger"):
        await guest.stats()


async def test_silence_is_a_timeout(guest: Guest, liar: Liar) -> None:
    async def silent() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    liar.answer = silent
    with pytest.raises(TimedOutError):
        await guest.health(timeout_seconds=0.1)


async def test_errors_are_cut_to_size(guest: Guest, liar: Liar) -> None:
    details = {"a": "x" * 100_000, "b": [1], "c": 7, **{str(number): 1 for number in range(100)}}
    body = {"error": {"code": "not_found", "message": "m" * 100_000, "details": details}}
    liar.answer = http(json.dumps(body).encode(), 404)
    with pytest.raises(NotFoundError) as caught:
        await guest.stat("x")
    assert len(caught.value.message) == transport.MAX_MESSAGE_CHARS
    assert caught.value.details["c"] == 7
    assert "a" not in caught.value.details
    assert len(caught.value.details) <= 32


async def test_another_process_than_the_one_asked_for(guest: Guest, liar: Liar) -> None:
    info = {"id": ID, "pid": 3, "argv": ["x"], "state": "running", "started_at": 1}
    liar.answer = http(json.dumps(info).encode())
    assert (await guest.process(ID)).pid == 3
    with pytest.raises(GuestError):
        await guest.process("p_" + "1" * 26)


@pytest.mark.parametrize(
    "frames",
    [
        b"\xff" * 16,
        encode(Frame(STDOUT, 5, b"x")),
        encode(Frame(STDOUT, 0, b"x"))[:-1],
        encode(Frame(EXITED, 0, b"{}")),
    ],
)
async def test_frames_of_a_liar(guest: Guest, liar: Liar, frames: bytes) -> None:
    liar.answer = http(frames)
    with pytest.raises(GuestError):
        async with guest.follow_process(ProcessSpec(argv=["x"])) as found:
            async for _ in found:
                pass


@pytest.mark.parametrize("lines", [b"x" * 2_000_000, b"{}\n", b'{"path":"/a"', b'{"event":"door"}\n'])
async def test_lines_of_a_liar(guest: Guest, liar: Liar, lines: bytes) -> None:
    liar.answer = http(lines)
    with pytest.raises(GuestError):
        async with guest.watch(".") as events:
            async for _ in events:
                pass
    with pytest.raises(GuestError):
        async with guest.list_files(".") as infos:
            async for _ in infos:
                pass


async def test_a_file_longer_than_it_says(guest: Guest, liar: Liar) -> None:
    liar.answer = says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"abcdef")
    async with guest.read_file("x") as body:
        assert await body.read() == b"abc"


@pytest.mark.parametrize("size", [b"x", b"-1", b"9" * 30])
async def test_impossible_sizes(guest: Guest, liar: Liar, size: bytes) -> None:
    liar.answer = http(b"", extra=b"Cloche-File-Size: %s\r\n" % size)
    with pytest.raises(GuestError):
        async with guest.read_file("x"):
            pass


async def test_forward_passes_only_known_headers(guest: Guest, liar: Liar) -> None:
    liar.answer = http(b"", extra=b"Set-Cookie: a=b\r\nServer: x\r\nContent-Type: a/b\r\n")
    _, headers, body = await guest.forward("GET", b"/v1/files/stat?path=x", [(b"Cookie", b"c")])
    assert {name for name, _ in headers} == {b"content-type", b"content-length"}
    assert b"Cookie" not in liar.seen
    await body.aclose()
    liar.answer = http(b"", extra=b"Content-Type: %s\r\n" % (b"x" * 5000))
    with pytest.raises(GuestError):
        await guest.forward("GET", b"/v1/files/stat?path=x")


async def test_dial_keeps_what_came_with_the_answer(guest: Guest, liar: Liar) -> None:
    liar.answer = says(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: cloche-stream\r\n\r\nearly", b" late")
    stream = await guest.dial(80)
    received = b""
    while chunk := await stream.read(3):
        received += chunk
    assert received == b"early late"
    await stream.close()


async def test_a_target_cannot_smuggle_a_header(guest: Guest, liar: Liar) -> None:
    liar.answer = http(b"", 404)
    with pytest.raises(GuestError):
        await guest.stat("x HTTP/1.1\r\nHost: evil")
    assert b"\r\nHost: evil" not in liar.seen
    with pytest.raises(ClocheError):
        await guest.forward("GET", b"/v1/x HTTP/1.1\r\nA: b\r\n\r\n")


@pytest.mark.parametrize(("alive", "error"), [(True, GuestError), (False, SandboxDeadError)])
async def test_a_body_that_breaks_off(guest: Guest, liar: Liar, alive: bool, error: type[ClocheError]) -> None:
    liar.answer = says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"abc")
    with pytest.raises(error):
        async with guest.tar_out("x") as chunks:
            assert await anext(chunks) == b"abc"
            liar.answer = http(b"{}") if alive else nothing
            await anext(chunks)


async def test_an_answer_that_trickles_is_a_timeout(guest: Guest, liar: Liar) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    liar.answer = trickle
    with pytest.raises(TimedOutError):
        await asyncio.wait_for(guest.health(timeout_seconds=0.2), 5)


async def test_heads_without_end_are_a_timeout(guest: Guest, liar: Liar) -> None:
    async def hints() -> AsyncIterator[bytes]:
        while True:
            yield b"HTTP/1.1 103 Early Hints\r\n\r\n"

    liar.answer = hints
    with pytest.raises(TimedOutError):
        await asyncio.wait_for(guest.health(timeout_seconds=0.2), 5)


async def test_lines_may_be_cut_anywhere(guest: Guest, liar: Liar) -> None:
    body = b'{"event":"ready"}\n{"event":"create","path":"/\\udcff"}\n{"event":"keepalive"}\n'
    liar.answer = says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), *(bytes([b]) for b in body))
    async with guest.watch(".") as events:
        assert [(event.event, event.path) async for event in events] == [("ready", ""), ("create", "/\udcff")]
