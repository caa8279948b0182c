"""What the door does to itself before it reads a byte: it holds secrets in its memory, and nobody looks into it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from cloche.egress.budget import MAX_CONNECTIONS

_PR_SET_DUMPABLE = 4
#: of the process's descriptors, for the connections of one sandbox: each takes two
_SHARE = 1 / 4
_LEAST_CONNECTIONS = 64


def connections_of_one() -> int:
    """How many connections one sandbox may have open so that the others have descriptors, too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(_LEAST_CONNECTIONS, int(soft * _SHARE / 2)))


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
