"""Carries an allowed connection: bytes both ways between two sockets until both have ended.

No transports and no tasks per direction: a reader on each socket, one buffer for all connections, and what the other
side does not take at once is the only thing that is kept. Each turn is short, so that a fast stream does not keep the
loop from the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Protocol

from cloche.egress.hooks import LimitHit
from cloche.egress.outward.sockets import reset_on_close

CHUNK_BYTES = 256 << 10
#: reads of one turn
TURNS = 2
#: how long a connection may stay quiet once one side has finished
HALF_CLOSED_SECONDS = 60.0

_buffer = memoryview(bytearray(CHUNK_BYTES))


class Meter(Protocol):
    def room(self, wanted: int, *, sending: bool) -> int: ...
    def took(self, count: int, *, sending: bool) -> None: ...
    def spend(self, count: int, *, sending: bool) -> None: ...
    def delay(self) -> float: ...


class Relay:
    """`inside` is the code's end. Both sockets are the relay's from now on; `run` returns when the connection is over
    and they are closed."""

    def __init__(self, inside: socket.socket, outside: socket.socket, meter: Meter) -> None:
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._quiet: asyncio.TimerHandle | None = None
        self.moved_at = 0.0
        self.sockets = (inside, outside)
        self.sending = Pump(self, inside, outside, meter, sending=True)
        self.receiving = Pump(self, outside, inside, meter, sending=False)

    async def run(self, first: bytes = b"", answered: bytes = b"") -> None:
        """`first`, `answered`: what was read already, for the outside and the inside. Raises LimitHit, and OSError
        when one side has reset the connection."""
        try:
            self.sending.start(first)
            self.receiving.start(answered)
            await self._over
        finally:
            self.stop()

    async def run_looking(self, look: Coroutine[None, None, bytes], answered: bytes = b"") -> None:
        """`look` gives the first bytes from the inside, or raises to end the connection; meanwhile the outside may
        speak. Raises what it raises, too."""
        looking = asyncio.ensure_future(look)
        try:
            self.receiving.start(answered)
            await asyncio.wait((looking, self._over), return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                self.sending.start(looking.result())
            await self._over
        finally:
            await _ended(looking)
            self.stop()

    def stop(self) -> None:
        self.sending.detach()
        self.receiving.detach()
        if self._quiet is not None:
            self._quiet.cancel()
        if not self._over.done() or self._over.cancelled() or self._over.exception():
            # it did not end by itself, and both sides are to see that
            for sock in self.sockets:
                reset_on_close(sock)
        for sock in self.sockets:
            sock.close()

    def pump_ended(self) -> None:
        if self.sending.ended and self.receiving.ended:
            self.finish(None)
        elif self._quiet is None:
            self._watch_quiet()

    def finish(self, error: Exception | None) -> None:
        self.sending.detach()
        self.receiving.detach()
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)

    def _watch_quiet(self) -> None:
        self.moved_at = self._loop.time()
        self._quiet = self._loop.call_later(HALF_CLOSED_SECONDS, self._look_whether_quiet)

    def _look_whether_quiet(self) -> None:
        left = self.moved_at + HALF_CLOSED_SECONDS - self._loop.time()
        if left <= 0:
            self.finish(None)
        else:
            self._quiet = self._loop.call_later(left, self._look_whether_quiet)


async def _ended(task: asyncio.Task[bytes]) -> None:
    """Nothing waits on the socket any more when it returns."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


class Pump:
    """One direction. It reads only what the other side has taken."""

    __slots__ = ("_discard", "_meter", "_pending", "_relay", "_sending", "_source", "_target", "_wake", "ended")

    def __init__(
        self, relay: Relay, source: socket.socket, target: socket.socket, meter: Meter, *, sending: bool
    ) -> None:
        self._relay = relay
        self._source = source
        self._target = target
        self._meter = meter
        self._sending = sending
        self._pending = b""
        # of TCP, bytes go without being copied
        self._discard = socket.MSG_TRUNC if source.family in (socket.AF_INET, socket.AF_INET6) else 0
        self._wake: asyncio.TimerHandle | None = None
        self.ended = False

    def start(self, first: bytes) -> None:
        loop = self._loop
        if first:
            # many connections may have begun before the first of them has spoken: raises LimitHit
            self._meter.spend(len(first), sending=self._sending)
            self._pending = first
            self._guarded(self._flush)
        if not self._pending and not self.ended:
            loop.add_reader(self._source.fileno(), self._guarded, self._read)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._relay._loop

    def detach(self) -> None:
        """Stop for good; the descriptors are still open."""
        self.ended = True
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._source.fileno() >= 0:
            self._loop.remove_reader(self._source.fileno())
        if self._target.fileno() >= 0:
            self._loop.remove_writer(self._target.fileno())

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (BlockingIOError, InterruptedError):
            pass
        except (OSError, LimitHit) as error:
            self._relay.finish(error)

    def _read(self) -> None:
        for _ in range(TURNS):
            room = self._room()
            if not room:
                return
            count = self._source.recv_into(_buffer, room, socket.MSG_PEEK)
            if not count:
                self._end()
                return
            if self._send(count) < count:
                self._wait_for_target()
                return
            if count < CHUNK_BYTES:
                return

    def _send(self, count: int) -> int:
        """What the other side takes is taken from this one, and the rest stays in its socket: thousands of connections
        that nobody reads from cost nothing here."""
        try:
            sent = self._target.send(_buffer[:count])
        except BlockingIOError:
            return 0
        self._meter.took(sent, sending=self._sending)
        self._relay.moved_at = self._loop.time()
        left = sent
        while left:
            left -= self._source.recv_into(_buffer, left, self._discard)
        return sent

    def _wait_for_target(self) -> None:
        self._loop.remove_reader(self._source.fileno())
        self._loop.add_writer(self._target.fileno(), self._guarded, self._go_on)

    def _go_on(self) -> None:
        self._loop.remove_writer(self._target.fileno())
        self._loop.add_reader(self._source.fileno(), self._guarded, self._read)

    def _flush(self) -> None:
        try:
            sent = self._target.send(self._pending)
        except BlockingIOError:
            sent = 0
        self._pending = self._pending[sent:]
        if self._pending:
            self._loop.add_writer(self._target.fileno(), self._guarded, self._flush)
            return
        self._relay.moved_at = self._loop.time()
        self._go_on()

    def _room(self) -> int:
        """How much to read now; 0: later. A budget that is used up is only hit when there is something to carry."""
        try:
            room = self._meter.room(CHUNK_BYTES, sending=self._sending)
        except LimitHit:
            if self._source.recv(1, socket.MSG_PEEK):
                raise
            return CHUNK_BYTES
        if not room:
            self._loop.remove_reader(self._source.fileno())
            self._wake = self._loop.call_later(self._meter.delay(), self._awake)
        return room

    def _awake(self) -> None:
        self._wake = None
        self._loop.add_reader(self._source.fileno(), self._guarded, self._read)

    def _end(self) -> None:
        self.ended = True
        self._loop.remove_reader(self._source.fileno())
        self._target.shutdown(socket.SHUT_WR)
        self._relay.pump_ended()
