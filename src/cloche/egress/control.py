"""The door's end of the socket to its node: one message at a time, and the end of the process when the node has gone.

Nothing of the door may outlive its node, so a thread of its own watches for the other end's close: it ends the process
even when the loop is busy."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import NoReturn

import msgspec

from cloche.egress import messages
from cloche.egress.messages import Counted, FromDoor, FromNode, Happened

#: events and counters that wait for a node that does not read; more are dropped, replies never
MAX_WAITING_NEWS = 512
#: messages handled in one turn of the loop
_TURN = 32

log = logging.getLogger(__name__)

#: what arrives, with the descriptors that came along; whoever gets them owns them
Handler = Callable[[FromNode, list[int]], None]


class Control:
    def __init__(self, sock: socket.socket, handler: Handler, last_words: Callable[[], None]) -> None:
        """`last_words` runs once the node has gone, in any thread; nothing else does then."""
        sock.setblocking(False)
        self._socket = sock
        self._handler = handler
        self._waiting: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._receive)
        threading.Thread(target=_leave_with, args=(sock.fileno(), last_words), name="node", daemon=True).start()

    def send(self, message: FromDoor) -> None:
        """Never waits. What is too large is logged and dropped."""
        if isinstance(message, Happened | Counted) and len(self._waiting) >= MAX_WAITING_NEWS:
            return
        try:
            data = messages.encode(message)
        except ValueError as error:
            log.warning("a message to the node is not sent: %s", error)
            return
        self._waiting.append(data)
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                # the node has gone, which the thread has seen
                self._waiting.clear()
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        for _ in range(_TURN):
            try:
                data, descriptors, _flags, _from = socket.recv_fds(self._socket, messages.MAX_MESSAGE_BYTES, 4)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._loop.remove_reader(self._socket.fileno())
                return
            self._handle(data, descriptors)

    def _handle(self, data: bytes, descriptors: list[int]) -> None:
        try:
            self._handler(messages.from_node(data), descriptors)
        except msgspec.DecodeError as error:
            # never the message itself: it may carry secrets
            log.error("a message of the node that this door does not know: %s", error)
            for descriptor in descriptors:
                os.close(descriptor)


def _leave_with(descriptor: int, last_words: Callable[[], None]) -> NoReturn:
    """Leave when the other end of this socket is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    while not poll.poll():
        pass
    try:
        last_words()
    finally:
        leave()


def leave(status: int = 0) -> NoReturn:
    """At once, without unwinding: whatever was open closes with the process."""
    os._exit(status)
