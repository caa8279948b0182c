"""Which addresses nobody reaches who was not given them by range: this machine, its network, clouds' metadata."""

from __future__ import annotations

from collections.abc import Container


def forbidden(address: str, own: Container[str] = ()) -> str | None:
    """Why it is refused ("private address", "loopback address", "metadata service", …), None when it is not.
    `address` is canonical; `own`: canonical addresses of this machine. What is no address is forbidden too."""
    raise NotImplementedError
