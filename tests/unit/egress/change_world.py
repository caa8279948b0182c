"""One connection of a sandbox in this very loop, and a policy that changes after any number of the loop's turns.

Nothing here waits for a moment to come: the turns between a decision and its connection are counted, so that a test can
change the policy at each of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from cloche.egress.auditing.news import EventPace
from cloche.egress.connection import Connection
from cloche.egress.deciding.attempt import Attempt
from cloche.egress.inner.attached import Attached
from cloche.egress.inner.entrance import Entrance, Via
from cloche.egress.inner.proxy_port import ProxyClient
from cloche.egress.messages import Attach, FromDoor
from cloche.egress.outlet import Outlet
from cloche.egress.outward import dial
from cloche.egress.outward.own_addresses import OwnAddresses
from cloche.egress.outward.resolve import ResolveError
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.outward.upstream_proxy import UpstreamProxies
from cloche.egress.world import World
from cloche.model.egress import AuditLine, EgressPolicy
from cloche.model.egress_words import parse_policy

HOST, PORT = "up.test", 80
#: turns that something takes which is quick in reality, too
SLOW_TURNS = 3
#: after so many turns of quiet a connection waits for its other side
QUIET_TURNS = 40
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"
GET = b"GET /x HTTP/1.1\r\nHost: up.test\r\n\r\n"
GET_BY_PROXY = GET.replace(b"GET /x", b"GET http://up.test/x")


@dataclass
class Asking:
    """How code asks. `via` "proxy": a request to the proxy port. `greeting`: what the site says first."""

    via: Via
    says: bytes
    greeting: bytes = b""
    host: str = HOST


class Names:
    """A resolver that takes its time. `fails`: it cannot say."""

    def __init__(self) -> None:
        self.fails = False
        self.asked: list[str] = []

    async def addresses(self, name: str, owner: str = "") -> list[str]:
        self.asked.append(name)
        await turns(SLOW_TURNS)
        if self.fails:
            raise ResolveError("nobody knows")
        return ["127.0.0.1"]


class Heard:
    """An audit that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[AuditLine] = []

    def write(self, line: AuditLine) -> None:
        self.lines.append(line)


@dataclass
class Site:
    """The far end. It answers once it `may`, and closes."""

    greeting: bytes = b""
    may: asyncio.Event = field(default_factory=asyncio.Event)
    got: bytes = b""
    dialled: int = 0
    serving: asyncio.Task[None] | None = None

    async def dial(self, addresses: list[str], port: int) -> socket.socket:
        await turns(SLOW_TURNS)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        self.dialled += 1
        self.serving = asyncio.ensure_future(self._serve(theirs))
        ours.setblocking(False)
        await turns(SLOW_TURNS)
        return ours

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        with sock, contextlib.suppress(OSError):
            if self.greeting:
                await loop.sock_sendall(sock, self.greeting)
            else:
                self.got += await loop.sock_recv(sock, 65536)
            await self.may.wait()
            await loop.sock_sendall(sock, ANSWER)


@dataclass
class Peer:
    """Another sandbox, whose server is the site."""

    site: Site
    is_open: bool = True

    def accepts(self, sandbox: str | None, port: int) -> bool:
        return self.is_open

    async def dial(self, port: int) -> SocketStream:
        return SocketStream(await self.site.dial([], port))


@dataclass
class Scene:
    """`attached`: the sandbox. `said`: what its code got."""

    attached: Attached
    site: Site
    peer: Peer
    names: Names
    audit: Heard
    said: bytes = b""


def policy(words: str) -> EgressPolicy | None:
    return parse_policy(words)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def scene(before: EgressPolicy | None, asking: Asking) -> Scene:
    names, audit, told = Names(), Heard(), list[FromDoor]()
    peer = Peer(Site(asking.greeting))
    world = World(
        resolver=names, proxies=UpstreamProxies({}), own=OwnAddresses(), audit=audit, pace=EventPace(),
        inspector=_no_inspector, tell=told.append, neighbours=lambda project, name: peer,
    )  # type: ignore[arg-type]  # fmt: skip
    attach = Attach(id=1, sandbox_id="sb_1", name="box", policy=before)
    return Scene(Attached(attach, world), peer.site, peer, names, audit)


def _no_inspector() -> None:
    raise AssertionError("nothing here is looked into")


@contextlib.asynccontextmanager
async def connecting(here: Scene, asking: Asking) -> AsyncIterator[asyncio.Task[None]]:
    """The task that carries the connection; when it is over, `said` is complete."""
    inside, code = socket.socketpair()
    for end in (inside, code):
        end.setblocking(False)
    code.send(asking.says)
    task = asyncio.ensure_future(_carry(here, asking, SocketStream(inside)))
    hears = asyncio.ensure_future(_hear(here, code))
    try:
        yield task
        await turns(QUIET_TURNS)
        if not hears.done():
            code.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(asyncio.gather(task, hears), 30)
    finally:
        for each in (task, hears):
            each.cancel()
        await asyncio.gather(task, hears, return_exceptions=True)
        here.attached.close()
        code.close()
        if here.site.serving is not None:
            here.site.serving.cancel()


async def _carry(here: Scene, asking: Asking, stream: SocketStream) -> None:
    if asking.via == "proxy":
        nowhere = Attempt(host="", is_address=False, port=0)
        assert await ProxyClient(stream, Connection(here.attached, "proxy", nowhere)).until_tunnel() is None
        return
    attempt = Attempt(host=asking.host, is_address=False, port=PORT)
    await Outlet(Connection(here.attached, asking.via, attempt), Entrance(stream, asking.via, "box")).run()


async def _hear(here: Scene, code: socket.socket) -> None:
    with code, contextlib.suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(code, 65536):
            here.said += data


async def changed_at(turn: int, asking: Asking, before: EgressPolicy | None, change: Callable[[Scene], None]) -> Scene:
    """Something changes after so many turns; then the site answers, if it has been reached."""
    here = scene(before, asking)
    dial.dial, kept = here.site.dial, dial.dial
    try:
        async with connecting(here, asking):
            await turns(turn)
            change(here)
            await turns(QUIET_TURNS)
            here.site.may.set()
    finally:
        dial.dial = kept
    return here
