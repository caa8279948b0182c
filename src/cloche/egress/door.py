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
from typing import Any

import uvloop

from cloche.egress import hardened
from cloche.egress.doorkeeper import Doorkeeper

#: lines of the door's own log a minute: what a guest does must not fill the disk
MAX_LOG_LINES = 60

log = logging.getLogger(__name__)


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


def _fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A task that nobody waits for has failed: the others go on."""
    log.error("in the door: %s", context.get("message"), exc_info=context.get("exception"))


async def _run(control_socket: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_fault)
    keeper = Doorkeeper(control_socket)
    # it leaves with its node, see control.py
    await loop.create_future()
    del keeper


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
