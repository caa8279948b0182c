"""What code reads when the door does not let it through: HTTP answers with a reason and a remedy, TLS alerts."""

from __future__ import annotations

import json
import shlex
from typing import Literal

Alert = Literal["access_denied", "handshake_failure", "internal_error", "unrecognized_name", "protocol_version"]

_ALERTS = {
    "handshake_failure": 40,
    "access_denied": 49,
    "protocol_version": 70,
    "internal_error": 80,
    "unrecognized_name": 112,
}
_REASONS = {
    400: "Bad Request", 403: "Forbidden by network policy", 408: "Request Timeout", 413: "Content Too Large",
    417: "Expectation Failed", 421: "Misdirected Request", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip
_MAX_CHARS = 1000
#: field of a budget → the word that sets it
_WORDS = {
    "bytes_out": "out=",
    "bytes_in": "in=",
    "connections": "connections=",
    "connections_per_minute": "connections=N/min",
}


def forbidden(
    host: str, port: int, *, rule: str = "", message: str = "", method: str = "", path: str = "",
    remedy: str = "", code: str = "egress_denied",
) -> bytes:  # fmt: skip
    """A whole 403 answer, JSON, after which the connection closes. `remedy`: see `allowing`. `code`: `egress_denied`,
    `secret_misused` or another word of the door's. Any text is bounded and cleaned."""
    error: dict[str, object] = {
        "code": code,
        "message": message or f"the egress policy of this sandbox does not allow {_place(host, port)}",
        "host": host,
        "port": port,
        "method": method,
        "path": path,
        "rule": rule,
        "remedy": remedy,
    }
    return _whole(403, {key: value for key, value in error.items() if value}, f'denied; rule="{_quoted(rule)}"')


def allowing(sandbox: str, word: str) -> str:
    """The command that allows it; "" where no word does. `sandbox`: its name or id; `word`: as Decision's remedy."""
    return f"cloche policy allow {sandbox} {shlex.quote(word)}" if word else ""


def limited(limit: str, reason: str) -> bytes:
    """A whole 429: a budget is used up, or a bound of the door's own, for which no word of a policy helps. `limit`: the
    field of an EgressBudget, or what the door calls it."""
    details: dict[str, object] = {"limit": limit}
    if limit in _WORDS:
        details["remedy"] = f"cloche policy set, with a larger {_WORDS[limit]}"
    return answer(429, "egress_limit", reason, details=details)


def answer(status: int, code: str, message: str, *, details: dict[str, object] | None = None) -> bytes:
    """A whole answer of another status (400 of a bad request, 429 `egress_limit`, 502 `egress_failed`, 503 …)."""
    return _whole(status, {"code": code, "message": message, **(details or {})}, _quoted(code))


def connected() -> bytes:
    """The answer to a CONNECT that was carried out."""
    return b"HTTP/1.1 200 Connection established\r\n\r\n"


def tls_alert(alert: Alert = "access_denied") -> bytes:
    """A fatal alert, as plain record: before the handshake no other can be read."""
    return b"\x15\x03\x03\x00\x02\x02" + bytes([_ALERTS[alert]])


def _whole(status: int, error: dict[str, object], sign: str) -> bytes:
    body = json.dumps({"error": {key: _bounded(value) for key, value in error.items()}}).encode("ascii") + b"\n"
    head = (
        f"HTTP/1.1 {status} {_phrase(status, error)}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nCloche-Egress: {sign}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def _phrase(status: int, error: dict[str, object]) -> str:
    """Of an answer to CONNECT most programs show this and nothing else: "Tunnel connection failed: 403 Forbidden …"."""
    said = "; try: ".join(str(error[part]) for part in ("message", "remedy") if error.get(part))
    return f"{_REASONS.get(status, 'Error')} ({_quoted(said)})"


def _bounded(value: object) -> object:
    if not isinstance(value, str):
        return value
    return "".join(char if char.isprintable() else "\ufffd" for char in value[:_MAX_CHARS])


def _quoted(text: str) -> str:
    """Inside a header's quoted string."""
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "?" for char in text[:200])


def _place(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown
