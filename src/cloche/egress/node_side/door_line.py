"""The node's end of the socket to its door process: requests and their replies, and what the door says by itself."""

from __future__ import annotations

import array
import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from cloche.egress import messages
from cloche.egress.messages import Counted, Happened, Message, Ready, Reply, Stream
from cloche.model.errors import InvalidError, LimitHitError, TimedOutError, UnavailableError, from_json

#: messages that wait for a door that does not read
MAX_WAITING = 4096
#: requests that wait for their reply
MAX_ASKED = 4096
#: messages handled in one turn of the loop
TURN = 64
REPLY_SECONDS = 10.0
SEND_BUFFER_BYTES = 1 << 20
log = logging.getLogger("cloche.egress")

Said = Ready | Stream | Happened | Counted


class DoorLine:
    """`hear` gets what the door says, `lost` is set when the line is over: closed, or the door broke the rules."""

    def __init__(self, sock: socket.socket, hear: Callable[[Said], None]) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._sock, self._hear = sock, hear
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, socket.socket | None]] = deque()
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        self._next = 0
        self.lost = asyncio.Event()
        self._loop.add_reader(sock.fileno(), self._receive)

    def new_id(self) -> int:
        self._next += 1
        return self._next

    def ask(self, message: Message, request_id: int) -> asyncio.Future[Reply]:
        """Send a request at once, in the order of the calls. Raises LimitHitError, InvalidError for one that is too
        large; the future raises UnavailableError when the line is lost."""
        if len(self._asked) >= MAX_ASKED:
            raise LimitHitError("too many requests to the door at once", limit="door_requests")
        reply: asyncio.Future[Reply] = self._loop.create_future()
        # nobody may be left who waits for it
        reply.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._asked[request_id] = reply
        try:
            self.tell(message)
        except BaseException:
            del self._asked[request_id]
            raise
        return reply

    async def answer(self, reply: asyncio.Future[Reply], request_id: int) -> dict[str, object]:
        """The data of a reply. Raises the error in it, TimedOutError. Nobody knows what a door that is silent does, so
        that is the end of the line, and another one is told everything."""
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                found = await reply
        except TimeoutError:
            log.error("the door has not answered in %g s", REPLY_SECONDS)
            self.close()
            raise TimedOutError(f"the door did not answer in {REPLY_SECONDS:g} s; it is being started again") from None
        finally:
            self._asked.pop(request_id, None)
        if found.error is not None:
            raise from_json(found.error)
        return found.data

    def tell(self, message: Message, descriptor: socket.socket | None = None) -> None:
        """Never waits. The descriptor is closed when it has been sent, or cannot be. Raises InvalidError for what is
        too large, LimitHitError, UnavailableError when the line is lost."""
        try:
            data = self._encoded(message)
        except BaseException:
            if descriptor is not None:
                descriptor.close()
            raise
        self._waiting.append((data, descriptor))
        if len(self._waiting) == 1:
            self._flush()

    def _encoded(self, message: Message) -> bytes:
        if self.lost.is_set():
            raise _gone()
        if len(self._waiting) >= MAX_WAITING:
            raise LimitHitError("the door does not read what it is told", limit="door_messages")
        try:
            return messages.encode(message)
        except ValueError as error:
            raise InvalidError(f"it cannot be told to the door: {error}", field="egress") from None

    def close(self) -> None:
        if self.lost.is_set():
            return
        self.lost.set()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, descriptor in self._waiting:
            if descriptor is not None:
                descriptor.close()
        self._waiting.clear()
        asked, self._asked = self._asked, {}
        for reply in asked.values():
            if not reply.done():
                reply.set_exception(_gone())

    def _flush(self) -> None:
        while self._waiting and not self.lost.is_set():
            data, descriptor = self._waiting[0]
            try:
                self._sock.sendmsg([data], _ancillary(descriptor))
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError as error:
                log.warning("the door cannot be told anything: %s", error)
                self.close()
                return
            if descriptor is not None:
                descriptor.close()
            self._waiting.popleft()
        if not self.lost.is_set():
            self._loop.remove_writer(self._sock.fileno())

    def _receive(self) -> None:
        for _ in range(TURN):
            if self.lost.is_set():
                return
            try:
                data = self._sock.recv(messages.MAX_MESSAGE_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            message = messages.from_door(data)
        except msgspec.DecodeError as error:
            log.error("the door says what no door says: %s", error)
            self.close()
            return
        if isinstance(message, Reply):
            reply = self._asked.pop(message.id, None)
            if reply is not None and not reply.done():
                reply.set_result(message)
            return
        self._hear(message)


def _ancillary(descriptor: socket.socket | None) -> list[tuple[int, int, array.array[int]]]:
    if descriptor is None:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor.fileno()]))]


def _gone() -> UnavailableError:
    return UnavailableError("the door has gone away; it is being started again", remedy="try again in a moment")
