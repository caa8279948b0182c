"""What a name is: looked up once, on the host, and kept for a moment.

By default the machine's own resolver answers (hosts file, search order and all), in threads of a pool; a DNS server of
the settings is asked directly. Nobody here decides whether an address may be used."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cloche.egress.deciding import names
from cloche.egress.hooks import LimitHit
from cloche.egress.outward import dns_exchange
from cloche.egress.outward.dns_exchange import DnsError
from cloche.egress.outward.turns import MAX_TURNS, Turns

if TYPE_CHECKING:
    from cloche.egress.outward import dnswire

MAX_CACHED = 4096
MAX_AGE_SECONDS = 30.0
#: the machine's resolver does not say how long an answer holds
UNKNOWN_AGE_SECONDS = 20.0
ABSENT_AGE_SECONDS = 3.0
TIMEOUT_SECONDS = 10.0
MAX_ADDRESSES = 32


class ResolveError(Exception):
    """Nobody could say; a name that does not exist has no addresses, and is no error."""


#: addresses, and for how many seconds they hold
Found = tuple[list[str], float]


class Source(Protocol):
    async def look_up(self, name: str, over: Callable[[], None]) -> Found:
        """`over` is called once, when nothing of it runs any more; that may be long after it was cancelled. Raises
        ResolveError."""


class Resolver:
    """Of all sandboxes. Lookups of one name at the same time are one, once the first of them runs; before that each
    sandbox waits for a turn of its own."""

    def __init__(
        self,
        server: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        source: Source | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._servers = [dns_exchange.parse_server(server)] if server else None
        self._source: Source = source or (DnsServer(self._servers) if self._servers else Machine())
        self._turns = turns or Turns()
        self._clock = clock
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._running: dict[str, asyncio.Task[list[str]]] = {}
        self._asked: dict[tuple[str, str], asyncio.Task[list[str]]] = {}

    async def addresses(self, name: str, owner: str = "") -> list[str]:
        """Of a normalised name, at most MAX_ADDRESSES, in the order in which they came; none: there is no such name,
        or it has none. `owner`: the id of the sandbox that asks. Raises ResolveError, and LimitHit when too many
        lookups of this sandbox hang."""
        known = self._known(name)
        if known is not None:
            return known
        task = self._running.get(name) or self._asked.get((owner, name))
        if task is None:
            task = self._asked[owner, name] = asyncio.ensure_future(self._in_turn(name, owner))
            task.add_done_callback(lambda done: self._looked_up(name, owner, done))
        return await asyncio.shield(task)

    def _known(self, name: str) -> list[str] | None:
        cached = self._cache.get(name)
        return cached.addresses if cached is not None and cached.until > self._clock() else None

    async def _in_turn(self, name: str, owner: str) -> list[str]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._turns.take(owner)
        except TimeoutError as error:
            if self._turns.has_all(owner):
                raise LimitHit("lookups", "names that this sandbox has asked for are still being looked up") from error
            raise ResolveError("too many names are being looked up") from error
        # somebody else may have asked meanwhile
        known, running = self._known(name), self._running.get(name)
        if known is not None:
            self._turns.give_back(owner)
            return known
        if running is not None:
            self._turns.give_back(owner)
            return await asyncio.shield(running)
        self._running[name] = self._asked[owner, name]
        return await self._look_up(name, lambda: self._turns.give_back(owner))

    async def query(self, query: dnswire.Query) -> bytes:
        """The answer to a question of another kind, as the code gets it. Raises ResolveError."""
        from cloche.egress.outward import dnswire

        servers = self._servers or dns_exchange.machine_servers()
        try:
            answer, asked_id = await dns_exchange.exchange(servers, query.name, query.kind)
            return dnswire.carry(query, answer, asked_id)
        except (DnsError, dnswire.BadMessageError) as error:
            raise ResolveError(str(error)) from error

    async def _look_up(self, name: str, over: Callable[[], None]) -> list[str]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                addresses, age = await self._source.look_up(name, over)
        except TimeoutError as error:
            raise ResolveError(f"no answer within {TIMEOUT_SECONDS:g} seconds") from error
        # rules and ranges are held against one form of each address, whatever way a name server wrote it
        addresses = list(dict.fromkeys(map(names.canonical_address, addresses)))[:MAX_ADDRESSES]
        self._keep(name, addresses, min(age, MAX_AGE_SECONDS) if addresses else ABSENT_AGE_SECONDS)
        return addresses

    def _looked_up(self, name: str, owner: str, task: asyncio.Task[list[str]]) -> None:
        del self._asked[owner, name]
        if self._running.get(name) is task:
            del self._running[name]
        if not task.cancelled():
            # whoever asked may have gone, and then nobody looks at the error
            task.exception()

    def _keep(self, name: str, addresses: list[str], seconds: float) -> None:
        self._cache[name] = _Cached(addresses, self._clock() + seconds)
        self._cache.move_to_end(name)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)


@dataclass(slots=True)
class _Cached:
    addresses: list[str]
    until: float


class Machine:
    """getaddrinfo."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MAX_TURNS, thread_name_prefix="resolve")

    async def look_up(self, name: str, over: Callable[[], None]) -> Found:
        loop = asyncio.get_running_loop()
        try:
            running = self._pool.submit(_machine_addresses, name)
        except RuntimeError as error:
            # no further thread may be started
            over()
            raise ResolveError(str(error)) from error
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(over))
        return await asyncio.wrap_future(running), UNKNOWN_AGE_SECONDS


def _machine_addresses(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return []
        raise ResolveError(error.strerror or str(error)) from error
    except (OSError, UnicodeError) as error:
        raise ResolveError(str(error)) from error
    return [str(address[0]).partition("%")[0] for *_, address in found]


class DnsServer:
    """A and AAAA of servers that are asked directly."""

    def __init__(self, servers: list[dns_exchange.Server]) -> None:
        self._servers = servers

    async def look_up(self, name: str, over: Callable[[], None]) -> Found:
        try:
            return await self._both_kinds(name)
        finally:
            over()

    async def _both_kinds(self, name: str) -> Found:
        """One kind may fail when the other has addresses: some servers cannot do AAAA."""
        both = await asyncio.gather(self._kind(name, "AAAA"), self._kind(name, "A"), return_exceptions=True)
        found = [one for one in both if not isinstance(one, BaseException)]
        addresses = [address for one, _ in found for address in one]
        failed = [one for one in both if isinstance(one, BaseException)]
        if failed and not addresses:
            raise ResolveError(str(failed[0])) from failed[0]
        return addresses, min((float(age) for one, age in found if one), default=0.0)

    async def _kind(self, name: str, kind: str) -> tuple[list[str], int]:
        from cloche.egress.outward import dnswire

        answer, asked_id = await dns_exchange.exchange(self._servers, name, kind)
        return dnswire.addresses(answer, name, kind, asked_id)
