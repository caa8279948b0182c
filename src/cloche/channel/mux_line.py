"""One connection of the multiplexer: a socket, one end of the protocol on it, and the streams that it carries.

The event loop says when the socket can be read or written; one read a time, so that a guest that floods has no more of
the loop than anybody else. Reading never waits for anything: what a slow stream does not read stays within its window.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque

from cloche.channel import mux_frames as wire
from cloche.channel.mux import MAX_UNTAKEN_BYTES, Mux
from cloche.channel.mux_stream import MuxStream
from cloche.model.errors import LimitHitError

_READ_BYTES = 256 << 10
_LEAST_READ_BYTES = 8 << 10
#: when what came keeps the loop longer than this, less is read at a time
_TURN_SECONDS = 0.002
_LOST = "the connection to the guest was lost"


class MuxLine:
    """The host's end on a connected socket, which it owns. Lives in the running loop."""

    def __init__(self, sock: socket.socket, backlog: int = 0) -> None:
        self.lost: str | None = None
        #: so many streams of the guest's may wait to be accepted
        self.backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._sock, self._mux = sock, Mux.host(_new_epoch())
        self._buffer, self._read_bytes = memoryview(bytearray(_READ_BYTES)), _READ_BYTES
        self._streams: dict[int, MuxStream] = {}
        self._established: asyncio.Future[bool] = self._loop.create_future()
        self._room: deque[asyncio.Future[bool]] = deque()
        self._arrived: deque[MuxStream] = deque()
        self._accepting: deque[asyncio.Future[bool]] = deque()
        self._writing = self._flush_is_due = self._deaf = False
        self._loop.add_reader(sock, self._read)
        self._flush()

    # for the channel

    async def established(self) -> None:
        """Return when the guest has answered the hello. Raises ConnectionResetError."""
        if not self.lost:
            await self._established
        self._check()

    def open(self) -> MuxStream:
        """Raises ConnectionResetError, LimitHitError."""
        self._check()
        if self._mux.open_streams >= wire.MAX_STREAMS:
            raise LimitHitError("too many streams to this sandbox at once", limit="guest_streams")
        try:
            number = self._mux.open()
        except wire.MuxError as error:  # four billion ids are used up: begin anew
            self.lose(str(error))
            raise ConnectionResetError(str(error)) from error
        self._flush_soon()  # with what is written first, if that is at once
        return self._joined(number)

    async def accept(self) -> MuxStream:
        """Raises ConnectionResetError when the connection is lost before a stream comes."""
        while not self._arrived:
            await self._queued(self._accepting)
        stream = self._arrived.popleft()
        self._wake(self._accepting, len(self._arrived))
        return stream

    def lose(self, why: str = _LOST) -> None:
        """End everything; may be said twice."""
        if self.lost:
            return
        self.lost = why
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for stream in list(self._streams.values()):
            stream.break_off(why)
        self._streams.clear()
        self._arrived.clear()
        _settle(self._established)
        for waiting in (self._room, self._accepting):
            self._wake(waiting, len(waiting))

    # for a stream

    async def has_room(self, turn: asyncio.Future[bool] | None = None) -> bool:
        """Return when it is this task's turn to send something, or when somebody else settles `turn`: False when it has
        to ask again. Raises ConnectionResetError."""
        self._check()
        if not self._room and self._mux.has_room:
            return True
        woken = await self._queued(self._room, turn)
        self._loop.call_soon(self._make_room)  # for the next one, whatever this one does
        return woken and self._mux.has_room

    def send(self, stream: int, data: memoryview) -> int:
        """How many bytes went, after `has_room`; one frame when others wait as well."""
        count = self._mux.send(stream, data[: wire.MAX_PAYLOAD_BYTES] if self._room else data)
        self._flush()
        return count

    def consumed(self, stream: int, count: int) -> None:
        self._mux.consumed(stream, count)
        self._flush_soon()

    def finish(self, stream: int) -> None:
        self._mux.finish(stream)
        self._flush_soon()

    def give_up(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._mux.close(stream)
        self._flush_soon()

    # the socket

    def _read(self) -> None:
        try:
            count = self._sock.recv_into(self._buffer[: self._read_bytes])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.lose(f"{_LOST}: {error.strerror}")
            return
        if not count:
            self.lose()
            return
        began = self._loop.time()
        for event in self._mux.receive(self._buffer[:count]):
            self._heard(event)
        if self._mux.waiting > MAX_UNTAKEN_BYTES:
            self.lose("the guest does not take the answers to what it says")
        self._flush_soon()
        self._adapt(self._loop.time() - began)

    def _adapt(self, seconds: float) -> None:
        if seconds > _TURN_SECONDS:
            self._read_bytes = max(self._read_bytes // 2, _LEAST_READ_BYTES)
        else:
            self._read_bytes = min(self._read_bytes * 2, _READ_BYTES)

    def _flush(self) -> None:
        self._flush_is_due = False
        try:
            while self._mux.waiting and not self.lost and not self._deaf:
                self._mux.sent(self._sock.sendmsg(self._mux.outgoing()))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._deaf = True  # what the other end said before it went is still to be read; then comes the end
        self._watch_writable()
        self._make_room()

    def _flush_soon(self) -> None:
        if self._mux.waiting and not self._flush_is_due and not self._writing and not self.lost:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _watch_writable(self) -> None:
        wanted = bool(self._mux.waiting) and not self._deaf and not self.lost
        if wanted and not self._writing:
            self._loop.add_writer(self._sock, self._flush)
        elif self._writing and not wanted and not self.lost:
            self._loop.remove_writer(self._sock)
        self._writing = wanted

    # events

    def _heard(self, event: wire.Event) -> None:
        match event:
            case wire.Data() | wire.Writable() | wire.Finished() | wire.Reset():
                stream = self._streams.get(event.stream)
                if stream:
                    stream.hear(event)
            case wire.Opened(number):
                self._offered(number)
            case wire.Began():
                _settle(self._established)
            case wire.Ended(error):
                self.lose(f"the guest breaks the rules of the multiplexer: {error}")

    def _offered(self, number: int) -> None:
        if len(self._arrived) >= self.backlog:
            self._mux.reset(number, wire.REFUSED)
            return
        self._arrived.append(self._joined(number))
        self._wake(self._accepting, 1)

    def _joined(self, number: int) -> MuxStream:
        self._streams[number] = MuxStream(number, self)
        return self._streams[number]

    # who waits

    def _check(self) -> None:
        if self.lost:
            raise ConnectionResetError(self.lost)

    def _make_room(self) -> None:
        if self._room and self._mux.has_room:
            self._wake(self._room, 1)

    async def _queued(self, queue: deque[asyncio.Future[bool]], turn: asyncio.Future[bool] | None = None) -> bool:
        """Wait to be woken; False when somebody else settled `turn`. Whoever is woken and does not come passes it on.
        Raises ConnectionResetError."""
        self._check()
        turn = turn or self._loop.create_future()
        queue.append(turn)
        try:
            woken = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._wake(queue, 1)
            raise
        finally:
            if turn.cancelled() or not turn.result():
                with contextlib.suppress(ValueError):
                    queue.remove(turn)
        self._check()
        return woken

    def _wake(self, queue: deque[asyncio.Future[bool]], count: int) -> None:
        while queue and count:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(True)
                count -= 1


def _new_epoch() -> bytes:
    """The tag, its first four bytes, has no zero in it: a header that zeros complete is never a frame."""
    return bytes(byte or 1 for byte in os.urandom(wire.TAG_BYTES)) + os.urandom(wire.EPOCH_BYTES - wire.TAG_BYTES)


def _settle(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)
