"""A sandbox for one command: made, used, and removed in every case but SIGKILL."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cloche.cli import progress
from cloche.cli.failure import say
from cloche.cli.interrupts import Watch
from cloche.model.errors import ClocheError, NotFoundError, TimedOutError
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.wire import ConnectionLostError

#: marks what is temporary; its value is one per call, by which an interrupted create is found again
LABEL = "cloche.run"
_FIRST_MACHINE = "the first one boots, and copies /usr if nobody has: once"


def used(options: dict[str, Any], watch: Watch, use: Callable[[Sandbox], int], *, keep: bool = False) -> int:
    """Make a sandbox of these arguments of `Sandbox.create` → what `use` returns of it. `use` is called with signals
    waiting; it lets them in where it can be interrupted."""
    token = os.urandom(8).hex()
    if keep:
        return _kept(options, watch, use)
    return _removed({**options, "labels": {**options.get("labels", {}), LABEL: token}}, token, watch, use)


def _kept(options: dict[str, Any], watch: Watch, use: Callable[[Sandbox], int]) -> int:
    made = watch.interruptible(lambda: making(options))
    try:
        return use(made)
    finally:
        say(f"cloche: kept {made.id}")


def _removed(options: dict[str, Any], token: str, watch: Watch, use: Callable[[Sandbox], int]) -> int:
    made: Sandbox | None = None
    refused = False
    try:
        made = watch.interruptible(lambda: _create(options))
        return use(made)
    except _NothingMadeError as nothing:
        refused = True
        raise nothing.reason from None
    finally:
        if not refused:
            _remove(made, token)


def making(options: dict[str, Any]) -> Sandbox:
    """`Sandbox.create`, with a line that says so when it takes long."""
    with progress.waiting("making a sandbox", _FIRST_MACHINE if options.get("engine") == "vm" else ""):
        return Sandbox.create(**options)


def _create(options: dict[str, Any]) -> Sandbox:
    try:
        return making(options)
    except (ConnectionLostError, TimedOutError):
        raise
    except ClocheError as error:
        raise _NothingMadeError(error) from error


class _NothingMadeError(Exception):
    """The node refused, so there is nothing to look for and remove."""

    def __init__(self, reason: ClocheError) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _remove(made: Sandbox | None, token: str) -> None:
    try:
        with progress.waiting("removing the sandbox"), suppress(NotFoundError):
            if made is not None:
                made.remove()
                return
            for left in Sandbox.list(labels={LABEL: token}):
                Sandbox.from_id(left.id).remove()
    except ClocheError as error:
        if made is not None:
            say(f"cloche: the sandbox {made.id} could not be removed: {error.message}")
