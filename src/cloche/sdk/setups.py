"""What the set-up of an engine says, as the SDK hands it back."""

from __future__ import annotations

from typing import Literal

import msgspec


class SetupProgress(msgspec.Struct, frozen=True, kw_only=True):
    """`done` and `total` count `unit`s of this step; 0 where nobody can tell."""

    step: str
    summary: str
    done: int = 0
    total: int = 0
    unit: Literal["bytes", "files", "steps"] = "steps"


class Lack(msgspec.Struct, frozen=True, kw_only=True):
    """`remedy`: one command or setting."""

    id: str
    summary: str
    remedy: str | None = None


class EngineSetup(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that can be set up. `missing`: what it cannot run without and does not have."""

    name: str
    usable: bool
    missing: list[Lack]


class EngineSetups(msgspec.Struct, frozen=True, kw_only=True):
    engines: list[EngineSetup]
