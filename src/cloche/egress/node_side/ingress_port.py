"""Remembers the port at which published ports are reached by name, so that URLs stay the same."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

NAME = "ingress.port"


class Reachable(msgspec.Struct, frozen=True, kw_only=True):
    """Where a published port is: `ingress_port` for URLs of all sandboxes, `address_port` for this port alone."""

    ingress_port: int
    address_port: int


def kept_port(home: Path) -> int:
    """That of the last door; 0 when there was none. Somebody else may have it now."""
    try:
        text = (home / "egress" / NAME).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return 0
    port = int(text) if text.isdigit() and len(text) <= 5 else 0
    return port if port <= 65535 else 0


def keep_port(home: Path, port: int) -> None:
    """A disk that is full costs only the memory of it."""
    with contextlib.suppress(OSError):
        directory = home / "egress"
        directory.mkdir(mode=0o700, exist_ok=True)
        half = directory / f"{NAME}.new"
        half.write_text(f"{port}\n", "ascii")
        os.replace(half, directory / NAME)
