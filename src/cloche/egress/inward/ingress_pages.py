"""What a client of a published port reads when the sandbox cannot answer: a page, JSON or a line of text."""

from __future__ import annotations

import json
from html import escape

from cloche.egress.http.heads import RequestHead

_REASONS = {
    400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    417: "Expectation Failed", 431: "Request Header Fields Too Large", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">{reload}<title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto}}
code{{background:#8882;padding:.1em .3em;border-radius:.2em}}</style></head>
<body><h1>{title}</h1><p>{message}</p></body></html>
"""
#: after so long a page asks again by itself
RELOAD_SECONDS = 1

#: HTTP/2 without TLS: settings, then GOAWAY with the reason HTTP_1_1_REQUIRED and words that curl -v shows
_GOAWAY_TEXT = b"HTTP/2 is not routed by name: use the address that publish gave for this port\n"
H2_REFUSAL = (
    b"\0\0\0\4\0\0\0\0\0"
    + (8 + len(_GOAWAY_TEXT)).to_bytes(3, "big") + b"\7\0\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\x0d" + _GOAWAY_TEXT
)  # fmt: skip


def unreachable(why: str, port: int, sandbox_id: str, head: RequestHead) -> bytes:
    """`why` as in UnreachableError. The page loads itself again until the port answers."""
    status, code, title, message = {
        "closed": (502, "nothing_listens", f"Nothing listens on port {port} yet",
                   "The sandbox runs. This page comes back by itself when something listens."),
        "silent": (503, "no_answer", "The sandbox does not answer",
                   f"Perhaps it is paused: `cloche resume {sandbox_id}`."),
    }.get(why, (503, "not_running", "The sandbox does not run",
                f"Start it again, unless it was removed: `cloche start {sandbox_id}`."))  # fmt: skip
    return _answer(status, code, (title, message), head, reload=True)


def unknown(head: RequestHead) -> bytes:
    """No published port has this name. Nothing is said about names that there are."""
    return _answer(404, "not_published", ("No such port", "Nothing is published under this name, or not any more: "
                                          "`cloche publish SANDBOX PORT`."), head, reload=False)  # fmt: skip


def broken(reason: str, head: RequestHead) -> bytes:
    """What listens in the sandbox has answered with what is no answer."""
    return _answer(502, "bad_answer", ("No answer of HTTP", reason), head, reload=False)


def refused(status: int, reason: str) -> bytes:
    """What came is no request."""
    return _written(status, "text/plain; charset=utf-8", f"{reason}\n".encode(), reload=False, bodiless=False)


def _answer(status: int, code: str, words: tuple[str, str], head: RequestHead, *, reload: bool) -> bytes:
    accepted = b",".join(head.values(b"accept")).lower()
    title, message = words
    if b"text/html" in accepted:
        kind, body = "text/html", _html(title, message, reload)
    elif b"json" in accepted:
        kind, body = "application/json", json.dumps({"error": {"code": code, "message": f"{title}. {message}"}}) + "\n"
    else:
        kind, body = "text/plain", f"{title}. {message}\n"
    return _written(status, f"{kind}; charset=utf-8", body.encode(), reload=reload, bodiless=head.method == "HEAD")


def _html(title: str, message: str, reload: bool) -> str:
    marked = escape(message)
    while marked.count("`") > 1:
        marked = marked.replace("`", "<code>", 1).replace("`", "</code>", 1)
    refresh = f'<meta http-equiv="refresh" content="{RELOAD_SECONDS}">' if reload else ""
    return _PAGE.format(title=escape(title), message=marked, reload=refresh)


def _written(status: int, kind: str, body: bytes, *, reload: bool, bodiless: bool) -> bytes:
    again = f"Retry-After: {RELOAD_SECONDS}\r\n" if reload else ""
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{again}Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (b"" if bodiless else body)
