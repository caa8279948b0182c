"""Where a data directory is. Standard library only: the client works it out before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping

SOCKET_NAME = "node.sock"
LOCK_NAME = "node.lock"
START_LOCK_NAME = "node.start.lock"
LOG_NAME = "node.log"


def home_from(environ: Mapping[str, str], user_home: str) -> str:
    """CLOCHE_HOME, else $XDG_DATA_HOME/cloche, else ~/.local/share/cloche (with `user_home` for ~)."""
    explicit = environ.get("CLOCHE_HOME", "")
    if explicit:
        return explicit
    data = environ.get("XDG_DATA_HOME", "")
    # the base directory rules say that a relative value counts as unset
    base = data if data.startswith("/") else f"{user_home.rstrip('/')}/.local/share"
    return f"{base}/cloche"
