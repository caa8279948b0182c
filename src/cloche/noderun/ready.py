"""How a node tells the one who started it that it answers, or why it never will."""

from __future__ import annotations

import contextlib
import json
import os

from cloche.model.errors import ClocheError

EXIT_OK = 0
EXIT_FAILED = 1
#: another node serves this data directory
EXIT_ALREADY_RUNNING = 3


class Starter:
    """The descriptor of `--ready-fd`; told once, and closed so that a client never waits for nothing."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            # processes that the node starts must not hold it open
            os.set_inheritable(descriptor, False)

    def ready(self, socket_path: str) -> None:
        self._tell({"ready": True, "pid": os.getpid(), "socket": socket_path})

    def failed(self, error: ClocheError) -> None:
        self._tell(error.to_json())

    def _tell(self, said: object) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            os.write(self._descriptor, json.dumps(said, default=str).encode() + b"\n")
            os.close(self._descriptor)
        self._descriptor = None


def detach() -> None:
    """Go on as a grandchild in a session of its own; the process that was started ends at once, so its parent has
    nothing left to reap."""
    if os.fork():
        os._exit(EXIT_OK)
    os.setsid()
