"""Every failure that Cloche itself can have, with the one table that every surface uses.

A command that exits non-zero, or is not found inside a sandbox, is a result and never one of these.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ClocheError(Exception):
    """Root of all errors. `code` is stable; `message` says what and why; `remedy` is a command or a setting."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 125
    usual_remedy: ClassVar[str | None] = None

    def __init__(self, message: str, *, remedy: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.usual_remedy
        self.details = details

    def to_json(self) -> dict[str, Any]:
        """The body that the API sends: `{"error": {"code", "message", "remedy", "details"}}`."""
        body = {"code": self.code, "message": self.message, "remedy": self.remedy, "details": self.details}
        return {"error": {key: value for key, value in body.items() if value not in (None, {})}}


class InvalidError(ClocheError):
    """The request itself is wrong; `details["field"]` names the field where there is one."""

    code, http_status = "invalid", 422


class NotFoundError(ClocheError):
    code, http_status = "not_found", 404


class AlreadyExistsError(ClocheError):
    code, http_status = "already_exists", 409


class WrongStateError(ClocheError):
    """The sandbox (or process) is not in a state that allows this; `details["state"]` says which it is in."""

    code, http_status = "wrong_state", 409


class UnavailableError(ClocheError):
    """This machine, engine or image cannot do it; `remedy` says what would make it possible."""

    code, http_status = "unavailable_here", 501


class NeedsSubuidError(UnavailableError):
    """The request needs more user ids than the one that this ordinary user can map."""

    code = "needs_subuid"
    usual_remedy = (
        "sudo apt-get install uidmap && sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
    )


class InterpreterMissingError(UnavailableError):
    """The image has no interpreter of this language; `details["languages"]` names those that are there."""

    code = "interpreter_missing"


class LimitUnenforceableError(UnavailableError):
    """A limit that was asked for by name cannot be enforced here, so nothing was created."""

    code = "limit_unenforceable"


class LimitHitError(ClocheError):
    """A bound of the service was reached (`details["limit"]`), not one of a command's own limits."""

    code, http_status = "limit_hit", 429


class SandboxDeadError(ClocheError):
    """The sandbox ended while it was being used; `details["reason"]` says why."""

    code, http_status = "sandbox_dead", 410


class NoSpaceError(ClocheError):
    """The disk under CLOCHE_HOME, or the sandbox's own, is full."""

    code, http_status = "no_space", 507


class PermissionDeniedError(ClocheError):
    code, http_status = "permission_denied", 403


class TimedOutError(ClocheError):
    """An operation of Cloche (not a command inside a sandbox) took longer than it may."""

    code, http_status, exit_status = "timed_out", 504, 124


class GuestError(ClocheError):
    """The guest answered with something that the wire description does not allow."""

    code, http_status = "guest_error", 502


class EngineError(ClocheError):
    """The engine could not make or control the box; `details["stage"]` names the step."""

    code, http_status = "engine_failed", 500


class NodeUnreachableError(ClocheError):
    """No node answers on the socket and none could be started."""

    code, http_status = "node_unreachable", 503


class VersionMismatchError(ClocheError):
    """Client, node and guest do not speak a common version."""

    code, http_status = "version_mismatch", 426


def _all_errors(root: type[ClocheError]) -> dict[str, type[ClocheError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_all_errors(child))
    return found


BY_CODE: dict[str, type[ClocheError]] = _all_errors(ClocheError)


def from_json(body: object) -> ClocheError:
    """Rebuild an error from `to_json`'s shape; anything else becomes a plain `ClocheError`."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ClocheError(f"unreadable error from the node: {str(body)[:200]}")
    kind = BY_CODE.get(str(error.get("code")), ClocheError)
    details = error.get("details")
    rebuilt = kind(str(error.get("message", "")), remedy=error.get("remedy"))
    rebuilt.details = details if isinstance(details, dict) else {}
    return rebuilt
