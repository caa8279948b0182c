# Made from ../_async/patience.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""When a reader whose stream broke off tries again: node restarts and pauses of the sandbox are waited for."""

from __future__ import annotations

from cloche.model.errors import ClocheError, NotFoundError, SandboxDeadError, WrongStateError
from cloche.sdk._sync import bridge
from cloche.sdk._sync.transport import Transport

#: how often in a row a stream may break without anything in between before that is an error
MAX_BREAKS = 8
#: how often a sandbox that was paused under a reader is asked whether it goes on
PAUSED_SECONDS = 0.5


class Patience:
    """`sandbox` is the path of the sandbox, `what` names what is read; `began`: the reader has read from it before."""

    def __init__(self, transport: Transport, sandbox: str, what: str, *, began: bool) -> None:
        self._transport, self._sandbox, self._what = transport, sandbox, what
        self._began = began
        self._breaks = 0

    def progress(self) -> None:
        """Something came."""
        self._began, self._breaks = True, 0

    def before_next_try(self, broken: ClocheError) -> None:
        """Wait. Raises what ends the reading, SandboxDeadError when that is the end of the whole sandbox."""
        try:
            bridge.sleep(self._seconds_after(broken))
        except WrongStateError as error:
            state = error.details.get("state")
            if not self._began or state is None:
                raise
            raise SandboxDeadError(f"the sandbox ended under {self._what}: it is {state}", reason=state) from error
        except NotFoundError as error:
            if self._began and self._is_removed():
                raise SandboxDeadError(f"the sandbox was removed under {self._what}", reason="removed") from error
            raise

    def _seconds_after(self, error: ClocheError) -> float:
        """How long to wait. Raises `error` when trying again is of no use."""
        if self._began and is_paused(error):
            # what is frozen is silent and not lost: what it says after the sandbox is resumed is still wanted
            return PAUSED_SECONDS
        if isinstance(error, WrongStateError | NotFoundError) or self._breaks == MAX_BREAKS:
            raise error
        self._began = True
        self._breaks += 1
        return pause_seconds(self._breaks)

    def _is_removed(self) -> bool:
        try:
            self._transport.ask("GET", self._sandbox)
        except NotFoundError:
            return True
        return False


def pause_seconds(breaks: int) -> float:
    """How long to wait after so many breaks in a row: not at all after the first."""
    return min(1.0, 0.05 * 2 ** (breaks - 1)) if breaks > 1 else 0.0


def is_paused(error: ClocheError) -> bool:
    return isinstance(error, WrongStateError) and error.details.get("state") == "paused"
