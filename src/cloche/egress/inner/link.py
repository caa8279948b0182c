"""The door's side of one guest: the control stream, and streams that are parked there until the code connects.

The guest cannot open streams, so some wait for it, more after it has needed more. It comes back by itself when the
guest's socket was reset (a restore, a fork), and whatever the guest says, it costs this link and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from cloche.egress.budget import MAX_CONNECTIONS, TokenBucket
from cloche.egress.inner import guest_words
from cloche.egress.inner.guest_streams import Connect, switched
from cloche.egress.inner.guest_words import MAX_STREAMS, FromGuest, Head, Need, Unknown
from cloche.egress.outward.sockets import SocketStream

PROTOCOL = b"cloche-door"
#: streams of one guest, with those whose refusal is still being said: these are no connections any more
MAX_OPEN = MAX_CONNECTIONS + MAX_STREAMS
#: parked when nothing happens
QUIET_STREAMS = 4
#: how long what was needed once is kept ready
QUIET_AFTER_SECONDS = 10.0
HEAD_SECONDS = 10.0
FIRST_WAIT_SECONDS = 0.05
#: after a stream that the guest has thrown away; twice as long after each, until one is used
REFILL_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 2.0
#: lines of the control stream, each for so many bytes that it has begun; a name in other letters, which take two
#: milliseconds to be read, counts as so many more
MAX_LINES_PER_SECOND = 1000
LINE_BYTES = 4096
ODD_NAME_LINES = 20
_TURN_LINES = 16

log = logging.getLogger(__name__)


class Link:
    """`serve` carries one connection to its end; `heard` takes a line, and may wait. `run` goes on until cancelled."""

    def __init__(
        self,
        connect: Connect,
        serve: Callable[[SocketStream, Head], Awaitable[None]],
        heard: Callable[[FromGuest], Awaitable[None]],
    ) -> None:
        self._connect = connect
        self._serve = serve
        self._heard = heard
        self._control: SocketStream | None = None
        self._speaking = asyncio.Lock()
        self._parking: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._wanted = QUIET_STREAMS
        self._needed_at = 0.0
        self._refill: asyncio.TimerHandle | None = None
        self._refill_wait = REFILL_SECONDS

    async def run(self) -> None:
        wait = FIRST_WAIT_SECONDS
        try:
            while True:
                if await self._converse():
                    wait = FIRST_WAIT_SECONDS
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        finally:
            await self._end()

    @property
    def parked(self) -> int:
        return len(self._parking)

    async def say(self, word: guest_words.Resolved | guest_words.Answer | guest_words.Name) -> None:
        """Waits while the guest does not read. Raises ConnectionError without a control stream."""
        control = self._control
        if control is None:
            raise ConnectionResetError("there is no control stream")
        async with self._speaking:
            await control.write(guest_words.line(word))

    async def _converse(self) -> bool:
        """With one control stream, until it ends. Whether there was one."""
        try:
            control = await switched(self._connect, b"/v1/door?control=1", PROTOCOL)
        except ConnectionError as error:
            log.debug("no control stream: %s", error)
            return False
        self._control = control
        self._refill_wait = REFILL_SECONDS
        try:
            self._park()
            await self._listen(control)
        except (ConnectionError, msgspec.DecodeError) as error:
            log.debug("the control stream ends: %s", error)
        finally:
            self._control = None
            control.close_now()
            self._unpark()
        return True

    async def _listen(self, control: SocketStream) -> None:
        clock = asyncio.get_running_loop().time
        pace = TokenBucket(MAX_LINES_PER_SECOND, MAX_LINES_PER_SECOND, clock())
        while True:
            for _ in range(_TURN_LINES):
                line = await _next_line(control)
                if line is None:
                    return
                word = guest_words.read_word(line)
                await self._hear(word)
                pace.take(_weight(line, word))
            if pace.available(clock()) < 0:
                await asyncio.sleep(pace.delay(_TURN_LINES))
            await asyncio.sleep(0)

    async def _hear(self, word: FromGuest | Unknown) -> None:
        if isinstance(word, Need):
            self._need(min(word.streams, MAX_STREAMS))
        elif not isinstance(word, Unknown):
            await self._heard(word)

    def _need(self, streams: int) -> None:
        self._needed_at = asyncio.get_running_loop().time()
        self._wanted = min(MAX_STREAMS, max(self._wanted, QUIET_STREAMS + streams))
        if self._refill is None and not self._is_full:
            for _ in range(min(streams - len(self._opening), MAX_STREAMS - len(self._parking))):
                self._park_one()
            self._park()

    def _park(self) -> None:
        """As many as are wanted now; fewer, once nobody has needed more for a while."""
        if self._control is None or self._refill is not None:
            return
        if asyncio.get_running_loop().time() - self._needed_at > QUIET_AFTER_SECONDS:
            self._wanted = max(QUIET_STREAMS, self._wanted // 2)
            self._needed_at = asyncio.get_running_loop().time()
        while len(self._parking) < self._wanted and not self._is_full:
            self._park_one()

    @property
    def _is_full(self) -> bool:
        return len(self._parking) + len(self._serving) >= MAX_OPEN

    def _park_one(self) -> None:
        task = asyncio.ensure_future(self._parked())
        for known in (self._parking, self._opening):
            known.add(task)
            # a task that is cancelled before it began runs not even its `finally`
            task.add_done_callback(known.discard)

    async def _parked(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        used = await self._wait_for_use(task)
        self._parking.discard(task)
        if used is None:
            self._park_later()
            return
        self._serving.add(task)
        self._refill_wait = REFILL_SECONDS
        try:
            self._park()
            await self._serve(*used)
        except ConnectionError as error:
            log.debug("the guest has gone: %s", error)
        except Exception:
            log.exception("a connection failed in the door")
        finally:
            self._serving.discard(task)
            used[0].close_now()
            self._park()

    async def _wait_for_use(self, task: asyncio.Task[None]) -> tuple[SocketStream, Head] | None:
        """None: the guest has not used it as it should."""
        try:
            stream = await switched(self._connect, b"/v1/door", PROTOCOL)
            self._opening.discard(task)
        except ConnectionError:
            return None
        try:
            return stream, await _read_head(stream)
        except (ConnectionError, TimeoutError, msgspec.DecodeError) as error:
            log.debug("a parked stream ends: %s", error)
            stream.close_now()
            return None
        except BaseException:
            stream.close_now()
            raise

    def _park_later(self) -> None:
        """A guest that throws streams away gets new ones slowly."""
        if self._refill is None and self._control is not None:
            self._refill = asyncio.get_running_loop().call_later(self._refill_wait, self._park_again)
            self._refill_wait = min(2 * self._refill_wait, LONGEST_WAIT_SECONDS)

    def _park_again(self) -> None:
        self._refill = None
        self._park()

    def _unpark(self) -> None:
        if self._refill is not None:
            self._refill.cancel()
            self._refill = None
        for task in self._parking:
            task.cancel()

    async def _end(self) -> None:
        self._unpark()
        tasks = self._parking | self._serving
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _read_head(stream: SocketStream) -> Head:
    if not stream.peeked and not await stream.peek_more():
        raise ConnectionResetError("it was not used")
    async with asyncio.timeout(HEAD_SECONDS):
        length = int.from_bytes(await stream.peek_exactly(4), "big")
        if length > guest_words.MAX_HEAD_BYTES:
            raise ConnectionAbortedError(f"a head of {length} bytes")
        return guest_words.read_head(await stream.peek_exactly(length))


async def _next_line(control: SocketStream) -> bytes | None:
    while (end := control.peeked.find(b"\n")) < 0:
        if len(control.peeked) > guest_words.MAX_LINE_BYTES:
            raise ConnectionAbortedError("a line without end")
        if not await control.peek_more():
            return None
    line = await control.peek_exactly(end + 1)
    return line[:-1]


def _weight(line: bytes, word: FromGuest | Unknown) -> int:
    """The lines that this one counts as."""
    name = str(getattr(word, "name", None) or getattr(word, "host", ""))
    return 1 + len(line) // LINE_BYTES + (0 if name.isascii() else ODD_NAME_LINES)
