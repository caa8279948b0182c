"""The life of the door's process, as the node sees it: it is started when it is needed, and again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from cloche.egress.messages import Counted, Happened, Ready, Setup, Stream
from cloche.egress.node_side import door_process
from cloche.egress.node_side.door_line import DoorLine, Said
from cloche.egress.node_side.door_process import DoorSettings
from cloche.egress.node_side.ingress_port import keep_port, kept_port
from cloche.model.errors import ClocheError, UnavailableError

#: a cold start reads some hundred files
READY_SECONDS = 15.0
#: pauses before another attempt, from the first to the longest
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 5.0
#: a door that has lived for so long begins anew without a pause
STEADY_SECONDS = 10.0
#: a door that nobody needs any more takes memory for so long
REST_SECONDS = 60.0
log = logging.getLogger("cloche.egress")
State = Literal["off", "up", "down"]


class DoorLife:
    """`begins` tells a process that has just started everything, before anybody else tells it something; it may not
    wait. `hears` gets what it says. `is_needed`: it is started again when it dies."""

    def __init__(
        self,
        settings: DoorSettings,
        begins: Callable[[DoorLine], None],
        hears: Callable[[DoorLine, Stream | Happened | Counted], None],
        is_needed: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._begins, self._hears, self._is_needed = begins, hears, is_needed
        self._line: DoorLine | None = None
        self._ready: Ready | None = None
        self._failure: ClocheError | None = None
        #: set and replaced whenever a start has succeeded or failed
        self._turn = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self._waiting = 0
        self._rest: asyncio.TimerHandle | None = None

    @property
    def state(self) -> State:
        if self.line is not None:
            return "up"
        return "down" if self._keeper is not None and not self._keeper.done() else "off"

    @property
    def ready(self) -> Ready | None:
        """What the last one said that began."""
        return self._ready

    @property
    def line(self) -> DoorLine | None:
        """Of a process that lives, as far as anybody knows."""
        return self._line if self._line is not None and not self._line.lost.is_set() else None

    def start(self) -> None:
        if not self._closing and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.ensure_future(self._keep())

    async def up(self) -> DoorLine:
        """The line, when the next start at the latest has succeeded. Raises UnavailableError when that fails."""
        if self.line is None:
            await self._next_turn()
        line = self.line
        if line is None:
            raise self._failure or UnavailableError("the node is leaving")
        return line

    def may_rest(self) -> None:
        """Nobody may need it any more."""
        if not self._is_needed() and self._rest is None and self._line is not None:
            self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._end_unneeded)

    async def close(self) -> None:
        self._closing = True
        if self._rest is not None:
            self._rest.cancel()
        if self._line is not None:
            self._line.close()
        if self._keeper is not None:
            self._turn.set()
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def _end_unneeded(self) -> None:
        self._rest = None
        if self._line is not None and not self._is_needed() and not self._waiting:
            log.info("the door is not needed any more")
            self._line.close()

    async def _next_turn(self) -> None:
        self._waiting += 1
        try:
            self.start()
            async with asyncio.timeout(READY_SECONDS):
                await self._turn.wait()
        except TimeoutError:
            raise UnavailableError("the door did not start in time", remedy="look into logs/door.log") from None
        finally:
            self._waiting -= 1

    async def _keep(self) -> None:
        """Start it, and again for as long as somebody is attached, or waits for it."""
        pause = FIRST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while not self._closing:
            began = loop.time()
            await self._live()
            if not self._is_needed() and not self._waiting:
                return
            lived = loop.time() - began
            pause = FIRST_PAUSE_SECONDS if lived > STEADY_SECONDS else min(2 * pause, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _live(self) -> None:
        """One life of the process, from its start to its end."""
        try:
            ours, process = await self._spawned()
        except UnavailableError as error:
            self._turned(error)
            return
        hello: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        line = DoorLine(ours, lambda said: self._hear(line, hello, said))
        try:
            await self._begin(line, hello)
            await line.lost.wait()
        except ClocheError as error:
            self._turned(error)
        finally:
            self._line = None
            line.close()
            await _ended(process)
        if not self._closing and self._is_needed():
            log.warning("the door has ended with status %s", process.returncode)

    async def _spawned(self) -> tuple[socket.socket, asyncio.subprocess.Process]:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            # no descriptor left, for example: the next start may find one
            raise UnavailableError(f"the door cannot be started: {error}", remedy="cloche doctor") from error
        try:
            return ours, await door_process.spawn(self._settings.home, theirs)
        except BaseException:
            ours.close()
            raise

    async def _begin(self, line: DoorLine, hello: asyncio.Future[Ready]) -> None:
        settings = self._settings
        home = Path(settings.home)
        line.tell(Setup(home=settings.home, resolver=settings.resolver, upstream_authorities=settings.upstream_ca,
                        ingress_port=settings.ingress_port or kept_port(home)))  # fmt: skip
        ended = asyncio.ensure_future(line.lost.wait())
        try:
            waited: list[asyncio.Future[Any]] = [hello, ended]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED, timeout=READY_SECONDS)
        finally:
            ended.cancel()
        if not hello.done():
            why = "ended" if line.lost.is_set() else "did not answer"
            said = door_process.last_words(settings.home) if line.lost.is_set() else ""
            raise UnavailableError(
                f"the door {why} before it was ready{f': {said}' if said else ''}", remedy="look into logs/door.log"
            )
        self._ready = hello.result()
        if self._ready.ingress_port:
            keep_port(home, self._ready.ingress_port)
        self._begins(line)
        self._line = line
        self._turned(None)

    def _turned(self, failure: ClocheError | None) -> None:
        """A start has come to its end; those who waited for it go on."""
        self._failure = failure
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()
        if failure is not None:
            log.error("the door is not there: %s", failure)

    def _hear(self, line: DoorLine, hello: asyncio.Future[Ready], said: Said) -> None:
        if not isinstance(said, Ready):
            self._hears(line, said)
        elif not hello.done():
            hello.set_result(said)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Also when the node leaves meanwhile: no process of it stays."""
    ending = asyncio.ensure_future(door_process.end(process))
    while not ending.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(ending)
