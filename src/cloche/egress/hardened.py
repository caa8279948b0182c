"""What the door does to itself before it reads a byte: it holds secrets in its memory, and nobody looks into it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_DUMPABLE = 4


def harden() -> None:
    """No core dumps, no debugger, a session of its own, and as many descriptors as it may have."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # what a terminal sends is meant for the node
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        os.setsid()
    except PermissionError:
        # it leads one already
        pass
