"""Calls that only a guest with its own kernel answers: what goes over the wire, and what its refusals become."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import pytest

from cloche.engines.fake.streams import MemoryChannel, MemoryStream, pair
from cloche.guest_api import Guest, Wake
from cloche.model.errors import InvalidError, UnavailableError, WrongStateError

pytestmark = pytest.mark.anyio
DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
AWAKE = Wake(sandbox_id="sb_1", nonce="n", hostname="h", machine_id="0" * 32, time=1.5, entropy=bytes(range(64)),
             forked=True, memory_mib=256, pids=10, cpus=0.5)  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Scripted:
    """A guest that gives the same answer to everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer, self.seen = DONE, b""
        self.tasks: list[asyncio.Task[None]] = []

    def connect(self) -> MemoryStream:
        ours, theirs = pair()
        self.tasks.append(asyncio.get_running_loop().create_task(self._serve(theirs)))
        return ours

    async def _serve(self, stream: MemoryStream) -> None:
        while b"\r\n\r\n" not in self.seen or not self._whole():
            more = await stream.read(65536)
            if not more:
                return
            self.seen += more
        await stream.write(self.answer)
        await stream.close()

    def _whole(self) -> bool:
        head, _, body = self.seen.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return not lengths or len(body) >= int(lengths[0].split(b":")[1])


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    made = Scripted()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


@pytest.fixture
async def guest(scripted: Scripted) -> AsyncIterator[Guest]:
    async with Guest(MemoryChannel(scripted.connect)) as client:
        yield client


async def test_freeze_and_thaw_are_requests_without_a_body(guest: Guest, scripted: Scripted) -> None:
    await guest.freeze()
    assert scripted.seen.startswith(b"POST /v1/freeze ")
    scripted.seen = b""
    await guest.thaw()
    assert scripted.seen.startswith(b"POST /v1/thaw ")


async def test_waking_says_everything_and_entropy_as_base64(guest: Guest, scripted: Scripted) -> None:
    await guest.wake(AWAKE)
    body = json.loads(scripted.seen.partition(b"\r\n\r\n")[2])
    assert base64.b64decode(body.pop("entropy")) == bytes(range(64))
    assert body == {"sandbox_id": "sb_1", "nonce": "n", "hostname": "h", "machine_id": "0" * 32, "time": 1.5,
                    "forked": True, "memory_mib": 256, "pids": 10, "cpus": 0.5}  # fmt: skip


async def test_too_little_entropy_is_never_sent(guest: Guest, scripted: Scripted) -> None:
    with pytest.raises(InvalidError):
        await guest.wake(Wake(**{f: getattr(AWAKE, f) for f in AWAKE.__struct_fields__} | {"entropy": b"x"}))
    assert not scripted.seen


@pytest.mark.parametrize(("status", "code", "kind"), [
    (501, "unavailable_here", UnavailableError), (409, "wrong_state", WrongStateError),
])  # fmt: skip
async def test_refusals(guest: Guest, scripted: Scripted, status: int, code: str, kind: type[Exception]) -> None:
    body = json.dumps({"error": {"code": code, "message": "no"}}).encode()
    scripted.answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    with pytest.raises(kind):
        await guest.freeze()
