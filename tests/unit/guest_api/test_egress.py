"""The calls for the inner end of the door: what goes over the wire, and that nothing impossible comes back from it."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from cloche.engines.fake.streams import MemoryChannel, MemoryStream, pair
from cloche.guest_api import Guest
from cloche.guest_api.egress import EgressAttempt, EgressSetup
from cloche.model.errors import GuestError, InvalidError

pytestmark = pytest.mark.anyio
TRIED = {"host": "example.com", "port": 443, "protocol": "tcp", "count": 2, "last": 1.5}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answer(status: int, body: object = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content)


class Scripted:
    """A guest that gives the same answer to everything, and keeps the last body."""

    def __init__(self) -> None:
        self.answer, self.head, self.body = answer(200, {}), b"", b""
        self.tasks: list[asyncio.Task[None]] = []

    def connect(self) -> MemoryStream:
        ours, theirs = pair()
        self.tasks.append(asyncio.get_running_loop().create_task(self._serve(theirs)))
        return ours

    async def _serve(self, stream: MemoryStream) -> None:
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += await stream.read(65536)
        self.head, _, self.body = seen.partition(b"\r\n\r\n")
        await stream.write(self.answer)
        await stream.close()


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


async def test_what_is_not_said_is_not_sent(guest: Guest, scripted: Scripted) -> None:
    scripted.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    await guest.configure_egress(EgressSetup(mode="closed"))
    assert scripted.head.startswith(b"PUT /v1/egress ") and json.loads(scripted.body) == {"mode": "closed"}
    await guest.configure_egress(EgressSetup(mode="open", proxy_env=True, authority_pem="P", placeholders={"A": "b"}))
    assert json.loads(scripted.body) == {
        "mode": "open", "proxy_env": True, "authority_pem": "P", "placeholders": {"A": "b"}}  # fmt: skip


async def test_a_refusal_is_typed(guest: Guest, scripted: Scripted) -> None:
    scripted.answer = answer(422, {"error": {"code": "invalid", "message": "no", "details": {"field": "mode"}}})
    with pytest.raises(InvalidError):
        await guest.configure_egress(EgressSetup(mode="ajar"))


async def test_attempts(guest: Guest, scripted: Scripted) -> None:
    scripted.answer = answer(200, {"attempts": [TRIED], "listeners": [], "attached": False})
    assert await guest.egress_attempts() == [EgressAttempt(host="example.com", port=443, count=2, last=1.5)]


@pytest.mark.parametrize("attempts", [
    [TRIED] * 257, [TRIED | {"host": ""}], [TRIED | {"host": "x" * 254}], [TRIED | {"port": -1}],
    [TRIED | {"port": 65536}], [TRIED | {"protocol": "x"}], [TRIED | {"count": -1}], [TRIED | {"last": 1e300}],
    [TRIED | {"last": "soon"}], {}, None, [[]],
])  # fmt: skip
async def test_impossible_attempts(guest: Guest, scripted: Scripted, attempts: object) -> None:
    scripted.answer = answer(200, {"attempts": attempts})
    with pytest.raises(GuestError):
        await guest.egress_attempts()


@pytest.mark.parametrize("said", [True, False, None])
async def test_health_says_whether_connections_are_redirected(
    guest: Guest, scripted: Scripted, said: bool | None
) -> None:
    health = {"api_version": 1, "guest_version": "x", "sandbox_id": "sb", "nonce": "n"}
    scripted.answer = answer(200, health if said is None else health | {"transparent_tcp": said})
    assert (await guest.health()).transparent_tcp is bool(said)
