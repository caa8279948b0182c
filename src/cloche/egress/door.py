"""The door: one process beside the node, through which everything goes that leaves a sandbox.

`python -m cloche.egress.door --control-fd N`: N is its end of a SOCK_SEQPACKET pair (`messages.py`). It ends with its
node, and has nothing to keep: policies, counters and publications are the node's."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from cloche.egress import hardened
from cloche.egress.audit import AuditWriter
from cloche.egress.control import Control, leave
from cloche.egress.guest_streams import Connect, at_socket
from cloche.egress.guests import Guest, Guests
from cloche.egress.messages import (
    Answer,
    Attach,
    Detach,
    FromNode,
    Publish,
    Ready,
    Reply,
    SetPolicy,
    Setup,
    Stream,
    StreamReply,
    Unpublish,
)
from cloche.egress.news import EventPace
from cloche.egress.own_addresses import OwnAddresses
from cloche.egress.resolve import Resolver
from cloche.egress.upstream_proxy import UpstreamProxies
from cloche.egress.world import Inspects, World
from cloche.model.errors import ClocheError, InvalidError, NotFoundError, UnavailableError

#: lines of the door's own log a minute: what a guest does must not fill the disk
MAX_LOG_LINES = 60
STREAM_SECONDS = 10.0
LAST_WORDS_SECONDS = 0.5

log = logging.getLogger(__name__)


class Door:
    """Answers the node. What takes time runs in a task, the rest at once and in order."""

    def __init__(self, control_socket: socket.socket) -> None:
        self._control = Control(control_socket, self._received, self._last_words)
        self._audit: AuditWriter | None = None
        self._guests = Guests()
        self._world: World | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: dict[int, asyncio.Future[socket.socket]] = {}
        self._next = 0

    def _received(self, message: FromNode, descriptors: list[int]) -> None:
        if isinstance(message, StreamReply):
            self._stream_replied(message, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, Setup):
            self._begin(message)
        else:
            self._asked(message)

    def _begin(self, setup: Setup) -> None:
        try:
            self._setup(setup)
        except Exception:
            log.exception("the door cannot begin")
            leave(1)

    def _setup(self, setup: Setup) -> None:
        from cloche.egress.authority import Authority

        authority = Authority.open(Path(setup.home))
        self._audit = AuditWriter(str(Path(setup.home) / "audit"))
        self._world = World(
            resolver=Resolver(setup.resolver),
            proxies=UpstreamProxies(),
            own=OwnAddresses(),
            audit=self._audit,
            pace=EventPace(),
            inspector=_inspector(authority, setup.upstream_authorities),
            tell=self._control.send,
            neighbours=self._guests.neighbour,
        )
        self._control.send(Ready(pid=os.getpid(), ingress_port=setup.ingress_port, authority_pem=authority.pem))

    def _last_words(self) -> None:
        """What is decided already is written down, if the disk is quick."""
        if self._audit is not None:
            self._audit.close(LAST_WORDS_SECONDS)

    def _asked(self, message: Attach | SetPolicy | Detach | Answer | Publish | Unpublish) -> None:
        try:
            answer = self._carry_out(message)
        except Exception as error:
            self._failed(message.id, error)
            return
        if isinstance(answer, dict):
            self._control.send(Reply(id=message.id, data=answer))
        else:
            self._in_task(message.id, answer)

    def _carry_out(
        self, message: Attach | SetPolicy | Detach | Answer | Publish | Unpublish
    ) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        if isinstance(message, Attach):
            return self._attach(message)
        if isinstance(message, SetPolicy):
            return self._set_policy(message)
        if isinstance(message, Detach):
            return self._detach(message)
        if isinstance(message, Answer):
            return self._answer(message)
        raise UnavailableError("this door cannot publish ports")

    def _attach(self, message: Attach) -> dict[str, Any]:
        if self._world is None:
            raise InvalidError("the door was not set up")
        connect = at_socket(message.socket) if message.socket else self._through_node(message.sandbox_id)
        before = self._guests.add(Guest(message, connect, self._world))
        if before is not None:
            self._spawn(_ended(before))
        return {}

    def _set_policy(self, message: SetPolicy) -> dict[str, Any]:
        guest = self._guests.get(message.sandbox_id)
        if guest is None:
            raise NotFoundError(f"the door does not know {message.sandbox_id}")
        guest.attached.set_policy(message.policy, message.secrets)
        guest.begin()
        return {}

    async def _detach(self, message: Detach) -> dict[str, Any]:
        guest = self._guests.remove(message.sandbox_id)
        return {} if guest is None else dict(msgspec.to_builtins(await guest.end()))

    def _answer(self, message: Answer) -> dict[str, Any]:
        if not self._guests.answer(message.ask_id, message.verdict):
            raise NotFoundError("nobody waits for that answer any more")
        return {}

    def _through_node(self, sandbox_id: str) -> Connect:
        return lambda: self._stream(sandbox_id)

    async def _stream(self, sandbox_id: str) -> socket.socket:
        """Raises ConnectionError."""
        self._next += 1
        number = self._next
        future: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._streams[number] = future
        self._control.send(Stream(id=number, sandbox_id=sandbox_id))
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                return await future
        except TimeoutError as error:
            raise ConnectionAbortedError("the node gave no stream") from error
        finally:
            del self._streams[number]

    def _stream_replied(self, message: StreamReply, descriptors: list[int]) -> None:
        future = self._streams.get(message.id)
        wanted = future is not None and not future.done()
        for descriptor in descriptors[1 if wanted else 0 :]:
            os.close(descriptor)
        if future is None or not wanted:
            return
        if message.error is not None or not descriptors:
            future.set_exception(ConnectionAbortedError(message.error or "the node gave no stream"))
            return
        sock = socket.socket(fileno=descriptors[0])
        sock.setblocking(False)
        future.set_result(sock)

    def _in_task(self, number: int, answer: Awaitable[dict[str, Any]]) -> None:
        async def reply() -> None:
            try:
                self._control.send(Reply(id=number, data=await answer))
            except Exception as error:
                self._failed(number, error)

        self._spawn(reply())

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _failed(self, number: int, error: Exception) -> None:
        if not isinstance(error, ClocheError):
            log.error("a request of the node failed", exc_info=error)
            error = ClocheError(f"the door failed: {type(error).__name__}")
        self._control.send(Reply(id=number, error=error.to_json()))


async def _ended(guest: Guest) -> None:
    await guest.end()


def _inspector(authority: Any, upstream_authorities: str | None) -> Any:
    """Made when it is needed for the first time: most doors never end anybody's TLS."""
    made: list[Inspects] = []

    def inspector() -> Inspects:
        if not made:
            from cloche.egress.inspect import Inspector

            made.append(Inspector(authority, upstream_authorities))
        return made[0]

    return inspector


class _Quiet(logging.Filter):
    """At most MAX_LOG_LINES a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._until = 0.0
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now >= self._until:
            self._until, self._count = now + 60, 0
        self._count += 1
        return self._count <= MAX_LOG_LINES


def _start_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Quiet())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], format="%(asctime)s door %(levelname)s %(message)s")


async def _run(control_socket: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: log.error("in the door: %s", context.get("message"), exc_info=context.get("exception"))
    )
    door = Door(control_socket)
    # it leaves with its node, see control.py
    await loop.create_future()
    del door


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cloche.egress.door")
    parser.add_argument("--control-fd", type=int, required=True)
    arguments = parser.parse_args()
    hardened.harden()
    _start_log()
    control_socket = socket.socket(fileno=arguments.control_fd)
    os.set_inheritable(arguments.control_fd, False)
    uvloop.run(_run(control_socket))


if __name__ == "__main__":
    main()
