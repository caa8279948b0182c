"""The door as the node has it: a process that is started when it is needed, and again when it dies.

What was attached and published is kept here, in memory with the values of secrets, so that a new process is told all of
it before anything else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from cloche.egress.messages import (
    Answer,
    Attach,
    Counted,
    Detach,
    GivenSecret,
    Happened,
    Message,
    Publish,
    Ready,
    Reply,
    SetPolicy,
    Setup,
    Stream,
    StreamReply,
    Unpublish,
)
from cloche.egress.node_side import door_process
from cloche.egress.node_side.door_line import DoorLine, Said
from cloche.egress.node_side.door_process import DoorSettings
from cloche.egress.node_side.ingress_port import Reachable, keep_port, kept_port
from cloche.model.egress import EgressCounters, EgressPolicy
from cloche.model.errors import ClocheError, InvalidError, UnavailableError

#: a cold start reads some hundred files
READY_SECONDS = 15.0
#: pauses before another attempt, from the first to the longest
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 5.0
#: a door that has lived for so long begins anew without a pause
STEADY_SECONDS = 10.0
#: a door that nobody needs any more takes memory for so long
REST_SECONDS = 60.0
#: streams to guests that are being opened at once
MAX_OPENING = 256
log = logging.getLogger("cloche.egress")
State = Literal["off", "up", "down"]


class Listener(Protocol):
    """Told by the door, on the event loop; neither `happened` nor `counted` may wait or raise."""

    def happened(self, message: Happened) -> None: ...

    def counted(self, message: Counted) -> None: ...

    async def stream(self, sandbox_id: str) -> socket.socket: ...


class DoorClient:
    """The `Door` of service/ports.py."""

    def __init__(self, settings: DoorSettings) -> None:
        self._settings = settings
        self._listener: Listener | None = None
        self._attached: dict[str, Attach] = {}
        self._published: dict[tuple[str, int], Publish] = {}
        #: what a door that began was told, by sandbox
        self._telling: dict[str, tuple[int, asyncio.Future[Reply]]] = {}
        self._line: DoorLine | None = None
        self._ready: Ready | None = None
        self._failure: ClocheError | None = None
        #: set and replaced whenever a start has succeeded or failed
        self._turn = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._closing = False
        self._waiting = 0
        self._rest: asyncio.TimerHandle | None = None

    @property
    def state(self) -> State:
        if self._works is not None:
            return "up"
        return "down" if self._keeper is not None and not self._keeper.done() else "off"

    @property
    def ingress_port(self) -> int:
        return self._ready.ingress_port if self._ready else kept_port(Path(self._settings.home))

    @property
    def pid(self) -> int | None:
        """Of the process that works now."""
        return self._ready.pid if self._ready and self._works else None

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    def start(self) -> None:
        if not self._closing and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.ensure_future(self._keep())

    async def ready(self) -> str:
        await self._up()
        assert self._ready is not None
        return self._ready.authority_pem

    async def attach(self, attach: Attach) -> None:
        self._attached[attach.sandbox_id] = attach
        if self._works is not None:
            await self._do(lambda number: msgspec.structs.replace(attach, id=number))
            return
        # a door that begins is told of all that are attached
        line = await self._up()
        if telling := self._telling.get(attach.sandbox_id):
            await line.answer(telling[1], telling[0])

    async def set_policy(self, sandbox_id: str, policy: EgressPolicy | None, secrets: Sequence[GivenSecret]) -> None:
        known = self._attached[sandbox_id]
        self._attached[sandbox_id] = msgspec.structs.replace(known, policy=policy, secrets=list(secrets))
        await self._do(lambda number: SetPolicy(id=number, sandbox_id=sandbox_id, policy=policy, secrets=list(secrets)))

    async def detach(self, sandbox_id: str) -> EgressCounters | None:
        known = self._attached.pop(sandbox_id, None)
        self._may_rest()
        for key in [key for key in self._published if key[0] == sandbox_id]:
            del self._published[key]
        line = self._works
        if known is None or line is None:
            return known.counters if known else None
        try:
            last = await self._send(line, lambda number: Detach(id=number, sandbox_id=sandbox_id))
            return msgspec.convert(last, EgressCounters) if last else known.counters
        except (ClocheError, msgspec.ValidationError) as error:
            log.info("sandbox %s was not detached: %s", sandbox_id, error)
            return known.counters

    def _may_rest(self) -> None:
        """Nobody may need it any more."""
        if not self._attached and self._rest is None and self._line is not None:
            self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._end_unneeded)

    def _end_unneeded(self) -> None:
        self._rest = None
        if self._line is not None and not self._attached and not self._waiting:
            log.info("the door is not needed any more")
            self._line.close()

    async def answer(self, ask_id: str, verdict: str) -> None:
        await self._do(lambda number: Answer(id=number, ask_id=ask_id, verdict=verdict))

    async def publish(self, sandbox_id: str, port: int, slug: str, address_port: int) -> Reachable:
        wanted = Publish(id=0, sandbox_id=sandbox_id, port=port, slug=slug, address_port=address_port)
        data = await self._publish(wanted)
        found = msgspec.convert(data, Reachable)
        if sandbox_id in self._attached:
            self._published[sandbox_id, port] = msgspec.structs.replace(wanted, address_port=found.address_port)
        return found

    async def _publish(self, wanted: Publish) -> dict[str, object]:
        try:
            return await self._do(lambda number: msgspec.structs.replace(wanted, id=number))
        except UnavailableError:
            raise
        except ClocheError:
            if wanted.address_port == 0:
                raise
            # somebody else has the port now
            return await self._do(lambda number: msgspec.structs.replace(wanted, id=number, address_port=0))

    async def unpublish(self, sandbox_id: str, port: int) -> None:
        line = self._works
        if self._published.pop((sandbox_id, port), None) is not None and line is not None:
            await self._send(line, lambda number: Unpublish(id=number, sandbox_id=sandbox_id, port=port))

    async def close(self) -> None:
        self._closing = True
        if self._rest is not None:
            self._rest.cancel()
        if self._line is not None:
            self._line.close()
        if self._keeper is not None:
            self._turn.set()
            self._keeper.cancel()
            await asyncio.gather(self._keeper, *self._opening, return_exceptions=True)

    async def _do(self, make: Callable[[int], Message]) -> dict[str, object]:
        return await self._send(await self._up(), make)

    async def _send(self, line: DoorLine, make: Callable[[int], Message]) -> dict[str, object]:
        number = line.new_id()
        return await line.answer(line.ask(make(number), number), number)

    @property
    def _works(self) -> DoorLine | None:
        """The line of a process that lives, as far as anybody knows."""
        return self._line if self._line is not None and not self._line.lost.is_set() else None

    async def _up(self) -> DoorLine:
        """The line, when the next start at the latest has succeeded. Raises UnavailableError when that fails."""
        if self._works is None:
            await self._next_turn()
        line = self._works
        if line is None:
            raise self._failure or UnavailableError("the node is leaving")
        return line

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
            if not self._attached and not self._waiting:
                return
            lived = loop.time() - began
            pause = FIRST_PAUSE_SECONDS if lived > STEADY_SECONDS else min(2 * pause, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _live(self) -> None:
        """One life of the process, from its start to its end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = await door_process.spawn(self._settings.home, theirs)
        except UnavailableError as error:
            ours.close()
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
        if not self._closing and self._attached:
            log.warning("the door has ended with status %s", process.returncode)

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
        self._restore(line)
        self._line = line
        self._turned(None)

    def _restore(self, line: DoorLine) -> None:
        """All in one go, so that nothing newer can be said before."""
        self._telling.clear()
        for sandbox_id, attach in self._attached.items():
            number = line.new_id()
            try:
                reply = line.ask(msgspec.structs.replace(attach, id=number), number)
            except InvalidError as error:
                # the others are not to be without a door for that
                log.error("sandbox %s has no network: %s", sandbox_id, error)
                continue
            reply.add_done_callback(_log_failure)
            self._telling[sandbox_id] = (number, reply)
        for publish in self._published.values():
            number = line.new_id()
            line.ask(msgspec.structs.replace(publish, id=number), number).add_done_callback(_log_failure)

    def _turned(self, failure: ClocheError | None) -> None:
        """A start has come to its end; those who waited for it go on."""
        self._failure = failure
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()
        if failure is not None:
            log.error("the door is not there: %s", failure)

    def _hear(self, line: DoorLine, hello: asyncio.Future[Ready], said: Said) -> None:
        if isinstance(said, Ready):
            if not hello.done():
                hello.set_result(said)
        elif isinstance(said, Stream):
            self._begin_stream(line, said)
        elif self._listener is not None and said.sandbox_id in self._attached:
            self._tell(self._listener, said)

    def _tell(self, listener: Listener, said: Happened | Counted) -> None:
        if isinstance(said, Happened):
            listener.happened(said)
            return
        known = self._attached[said.sandbox_id]
        self._attached[said.sandbox_id] = msgspec.structs.replace(known, counters=said.counters)
        listener.counted(said)

    def _begin_stream(self, line: DoorLine, said: Stream) -> None:
        if len(self._opening) >= MAX_OPENING:
            with contextlib.suppress(ClocheError):
                line.tell(StreamReply(id=said.id, error="too many streams at once"))
            return
        task = asyncio.ensure_future(self._open_stream(line, said))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_stream(self, line: DoorLine, said: Stream) -> None:
        assert self._listener is not None
        try:
            leads = await self._listener.stream(said.sandbox_id)
        except (ClocheError, OSError, TimeoutError) as error:
            reply, leads_to = StreamReply(id=said.id, error=str(error)[:500] or type(error).__name__), None
        else:
            reply, leads_to = StreamReply(id=said.id), leads
        with contextlib.suppress(ClocheError):
            line.tell(reply, leads_to)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Also when the node leaves meanwhile: no process of it stays."""
    ending = asyncio.ensure_future(door_process.end(process))
    while not ending.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(ending)


def _log_failure(reply: asyncio.Future[Reply]) -> None:
    """What could not be told again is told at the next change at the latest."""
    if reply.cancelled() or reply.exception() is not None:
        return
    if reply.result().error is not None:
        log.error("the new door did not take a sandbox", extra={"fields": {"error": reply.result().error}})
