"""Whether an address is this machine's own, whatever range it is from.

The kernel is asked: to reach an own address it would send from that same address. Nothing is sent."""

from __future__ import annotations

import socket
import time

_KNOWN_SECONDS = 10.0
_MAX_KNOWN = 4096
_ANY_PORT = 9


class OwnAddresses:
    """For `in`. Addresses come and go, so an answer holds for a moment only."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}
        self._until = 0.0

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, str):
            return False
        now = time.monotonic()
        if now >= self._until or len(self._known) >= _MAX_KNOWN:
            self._known.clear()
            self._until = now + _KNOWN_SECONDS
        known = self._known.get(address)
        if known is None:
            known = self._known[address] = _is_own(address)
        return known


def _is_own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, _ANY_PORT))
            return str(sock.getsockname()[0]) == address
    except OSError:
        # no way leads there
        return False
