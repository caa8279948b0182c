"""How far something is that takes long: a set-up, the build of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a set-up. `done` and `total` count `unit`s of this step; 0 where nobody can tell."""

    step: str
    summary: str
    done: int = 0
    total: int = 0
    unit: Literal["bytes", "files", "steps"] = "steps"


Report = Callable[[Progress], None]
