"""What code reads when the door does not let it through: HTTP answers with a reason and a remedy, TLS alerts."""

from __future__ import annotations

from typing import Literal

Alert = Literal["access_denied", "handshake_failure", "internal_error", "unrecognized_name", "protocol_version"]


def forbidden(
    host: str, port: int, *, rule: str = "", message: str = "", method: str = "", path: str = "",
    sandbox: str = "", code: str = "egress_denied",
) -> bytes:  # fmt: skip
    """A whole 403 answer, JSON, after which the connection closes. `code`: `egress_denied` (the remedy names the
    command that allows it), `secret_misused` or another word of the door's. Any text is bounded and cleaned."""
    raise NotImplementedError


def answer(status: int, code: str, message: str, *, details: dict[str, object] | None = None) -> bytes:
    """A whole answer of another status (400 of a bad request, 429 `egress_limit`, 502 `egress_failed`, 503 …)."""
    raise NotImplementedError


def connected() -> bytes:
    """The answer to a CONNECT that was carried out."""
    raise NotImplementedError


def tls_alert(alert: Alert = "access_denied") -> bytes:
    """A fatal alert, as plain record: before the handshake no other can be read."""
    raise NotImplementedError
