"""What a client of a published port reads when the sandbox cannot answer: a page, JSON or a line of text."""

from __future__ import annotations

import json
from html import escape
from typing import NamedTuple

_REASONS = {
    400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    417: "Expectation Failed", 421: "Misdirected Request", 431: "Request Header Fields Too Large",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">{reload}<title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto}}
code{{background:#8882;padding:.1em .3em;border-radius:.2em}}</style></head>
<body><h1>{title}</h1><p>{message}</p></body></html>
"""
#: after so long a page asks again by itself
RELOAD_SECONDS = 1
_ALWAYS = (
    (b"Cache-Control", b"no-store"),
    (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"X-Content-Type-Options", b"nosniff"),
)


class Page(NamedTuple):
    """`headers`: without those that frame it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def http1(self, *, bodiless: bool = False) -> bytes:
        """The last answer on a connection. `bodiless`: to a HEAD."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Error')}".encode("ascii")]
        lines += [name + b": " + value for name, value in self.headers]
        lines += [b"Content-Length: %d" % len(self.body), b"Connection: close", b"", b"" if bodiless else self.body]
        return b"\r\n".join(lines)


def unreachable(why: str, port: int, sandbox_id: str, accept: bytes) -> Page:
    """`why` as in UnreachableError. The page loads itself again until the port answers."""
    status, code, title, message = {
        "closed": (502, "nothing_listens", f"Nothing listens on port {port} yet",
                   "The sandbox runs. This page comes back by itself when something listens."),
        "silent": (503, "no_answer", "The sandbox does not answer",
                   f"Perhaps it is paused: `cloche resume {sandbox_id}`."),
    }.get(why, (503, "not_running", "The sandbox does not run",
                f"Start it again, unless it was removed: `cloche start {sandbox_id}`."))  # fmt: skip
    return _answer(status, code, (title, message), accept, reload=True)


def unknown(accept: bytes) -> Page:
    """No published port has this name. Nothing is said about names that there are."""
    return _answer(404, "not_published", ("No such port", "Nothing is published under this name, or not any more: "
                                          "`cloche publish SANDBOX PORT`."), accept, reload=False)  # fmt: skip


def broken(reason: str, accept: bytes) -> Page:
    """What listens in the sandbox has answered with what is no answer."""
    return _answer(502, "bad_answer", ("No answer of HTTP", reason), accept, reload=False)


def other_host(port: int, sandbox_id: str) -> Page:
    """At a port's own address."""
    reason = (
        f"This is port {port} of a sandbox, and here it answers for addresses and for names below localhost. Any page "
        "could lead another name to this machine, to read what is answered. To answer for every name: "
        f"cloche publish {sandbox_id} {port} --any-host"
    )
    return _page(421, "text/plain", f"{reason}\n", reload=False)


def refused(status: int, reason: str) -> Page:
    """What came is no request."""
    return _page(status, "text/plain", f"{reason}\n", reload=False)


def _answer(status: int, code: str, words: tuple[str, str], accept: bytes, *, reload: bool) -> Page:
    title, message = words
    if b"text/html" in accept.lower():
        return _page(status, "text/html", _html(title, message, reload), reload=reload)
    if b"json" in accept.lower():
        body = json.dumps({"error": {"code": code, "message": f"{title}. {message}"}}) + "\n"
        return _page(status, "application/json", body, reload=reload)
    return _page(status, "text/plain", f"{title}. {message}\n", reload=reload)


def _html(title: str, message: str, reload: bool) -> str:
    marked = escape(message)
    while marked.count("`") > 1:
        marked = marked.replace("`", "<code>", 1).replace("`", "</code>", 1)
    refresh = f'<meta http-equiv="refresh" content="{RELOAD_SECONDS}">' if reload else ""
    return _PAGE.format(title=escape(title), message=marked, reload=refresh)


def _page(status: int, kind: str, body: str, *, reload: bool) -> Page:
    again = ((b"Retry-After", b"%d" % RELOAD_SECONDS),) if reload else ()
    kinds = ((b"Content-Type", f"{kind}; charset=utf-8".encode("ascii")),)
    return Page(status, (*kinds, *again, *_ALWAYS), body.encode())
