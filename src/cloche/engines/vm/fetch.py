"""Downloads from a mirror that may be slow, broken or hostile: everything bounded, tried again, and gone on with.

Blocking; it runs in a thread of the set-up and looks at `stop` between two pieces."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from cloche._version import __version__
from cloche.engines.vm.apt_sources import is_web
from cloche.model.errors import UnavailableError

PIECE_BYTES = 256 << 10
SILENCE_SECONDS = 15.0
ATTEMPTS = 5
PATIENCE_SECONDS = 0.5
#: a mirror that gives less than so much in so long is taken for one that gives nothing
SLOW_SECONDS, SLOW_BYTES = 60.0, 64 << 10
MAX_REDIRECTS = 5
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")
OTHER_MIRROR = "cloche setup vm --mirror URL --suite NAME, or --kernel PATH --modules DIR"

T = TypeVar("T")
Count = Callable[[int], None]
"""Told how many bytes of a file are there."""


class StoppedError(Exception):
    """Whoever asked for the download does not want it any more. What has come so far is kept."""


class _BrokenError(Exception):
    """It may work the next time."""


class _RangeError(_BrokenError):
    """The mirror's file has no such part."""


class Fetcher:
    """`proxies`: scheme → URL, with "no" for the hosts that need none; None: as the environment says."""

    def __init__(
        self, stop: threading.Event, proxies: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic, wait: Callable[[float], bool] | None = None,
        silence_seconds: float = SILENCE_SECONDS, patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:  # fmt: skip
        self._stop, self._clock, self._wait = stop, clock, wait or stop.wait
        self._silence_seconds, self._patience_seconds = silence_seconds, patience_seconds
        self._opener = urllib.request.OpenerDirector()
        for handler in (_Proxies(proxies), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(), _Redirects(),
                        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()):  # fmt: skip
            self._opener.add_handler(handler)

    def small(self, url: str, limit: int) -> bytes:
        """A whole file that is not larger than `limit` bytes. Raises UnavailableError, StoppedError."""

        def attempt() -> bytes:
            with self._open(url, {}) as reply:
                content = b"".join(self._pieces(reply, limit, url))
                _check_length(reply, len(content))
                return content

        return self._tried(url, attempt)

    def file(self, url: str, part: Path, size: int, sha256: str, count: Count) -> None:
        """Bring `part` to `size` bytes with this SHA-256, from where it is. Raises UnavailableError (after wrong
        content `part` is gone; else the next call goes on with it), StoppedError, OSError."""
        resumed = _size(part)
        self._tried(url, lambda: self._more(url, part, size, count))
        if _digest(part) == sha256:
            return
        part.unlink()
        if not resumed:
            raise _wrong(url)
        # what lay there may have been of another file, or damaged
        self.file(url, part, size, sha256, count)

    def _more(self, url: str, part: Path, size: int, count: Count) -> None:
        at = _size(part)
        if at > size:
            part.unlink()
            at = 0
        count(at)
        if at == size and part.exists():
            return
        with self._part(url, part, at) as reply, open(part, "ab") as file:
            if at and not _goes_on(reply, at):
                file.truncate(0)
                at = 0
            for piece in self._pieces(reply, size - at, url):
                file.write(piece)
                file.flush()
                at += len(piece)
                count(at)
            os.fsync(file.fileno())
        if at != size:
            raise _BrokenError(f"it ended after {at} of {size} bytes")

    @contextlib.contextmanager
    def _part(self, url: str, part: Path, at: int) -> Iterator[http.client.HTTPResponse]:
        try:
            with self._open(url, {"Range": f"bytes={at}-"} if at else {}) as reply:
                yield reply
        except _RangeError:
            part.unlink()
            raise

    def _pieces(self, reply: http.client.HTTPResponse, limit: int, url: str) -> Iterator[bytes]:
        pace = _Pace(self._clock)
        while piece := reply.read1(PIECE_BYTES):
            self.check()
            limit -= len(piece)
            if limit < 0:
                raise UnavailableError(f"{_shown(url)} is larger than it may be", remedy=OTHER_MIRROR)
            pace.note(len(piece))
            yield piece

    def check(self) -> None:
        """Raises StoppedError when nobody wants this any more."""
        if self._stop.is_set():
            raise StoppedError

    def _tried(self, url: str, attempt: Callable[[], T]) -> T:
        """Attempt it several times, with longer and longer pauses in between."""
        for number in range(ATTEMPTS):
            try:
                return attempt()
            except (_BrokenError, OSError, http.client.HTTPException) as error:
                if _is_of_the_disk(error):
                    raise
                reason = _reason(error)
            if number + 1 < ATTEMPTS:
                self._wait(self._patience_seconds * 2**number)
            self.check()
        raise UnavailableError(f"{_shown(url)} cannot be fetched: {reason}", remedy=OTHER_MIRROR)

    @contextlib.contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        self.check()
        if not is_web(url):
            raise UnavailableError(f"{_shown(url)} is no http or https address", remedy=OTHER_MIRROR)
        headers = {"User-Agent": f"cloche/{__version__}", "Accept-Encoding": "identity", **headers}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        try:
            reply = self._opener.open(request, timeout=self._silence_seconds)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(url, error.code, error.reason) from error
        except ValueError as error:
            message = f"{_shown(url)} leads to what is no address: {error}"
            raise UnavailableError(message, remedy=OTHER_MIRROR) from error
        assert isinstance(reply, http.client.HTTPResponse)
        with reply:
            yield reply


class NotThereError(UnavailableError):
    """The mirror answers, but not with this file."""


class _Proxies(urllib.request.ProxyHandler):
    def __init__(self, proxies: Mapping[str, str] | None) -> None:
        self._no = (proxies or {}).get("no")
        super().__init__(None if proxies is None else {k: v for k, v in proxies.items() if k != "no"})

    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> Any:
        if self._no is not None and needs_none(req.host, self._no):
            return None
        return super().proxy_open(req, proxy, type)


def needs_none(host: str, no_proxy: str) -> bool:
    """Whether a host (with or without its port) is in a list as of NO_PROXY: names with all below them, or "*"."""
    host = host.lower()
    bare = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    names = [name.strip().lower().lstrip(".") for name in no_proxy.split(",")]
    return any(name in ("*", each) or each.endswith(f".{name}") for name in names if name for each in (host, bare))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To http and https only, never from https to http, and not for ever."""

    max_redirections = MAX_REDIRECTS
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        weaker = req.type == "https" and urlsplit(newurl).scheme != "https"
        if weaker or not is_web(newurl):
            raise urllib.error.HTTPError(req.full_url, code, "a redirect to where it may not lead", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Pace:
    """Notices a mirror that keeps a download alive without giving anything."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._since, self._bytes = clock, clock(), 0

    def note(self, size: int) -> None:
        self._bytes += size
        if self._clock() - self._since < SLOW_SECONDS:
            return
        if self._bytes < SLOW_BYTES:
            raise _BrokenError(f"it gives less than {SLOW_BYTES} bytes in {SLOW_SECONDS:.0f} s")
        self._since, self._bytes = self._clock(), 0


def _is_of_the_disk(error: Exception) -> bool:
    """What no other attempt would mend."""
    if not isinstance(error, OSError) or isinstance(error, urllib.error.URLError):
        return False
    return error.filename is not None or error.errno in _DISK


def _goes_on(reply: http.client.HTTPResponse, at: int) -> bool:
    found = _RANGE.fullmatch(reply.headers.get("Content-Range") or "")
    return reply.status == 206 and found is not None and int(found[1]) == at


def _check_length(reply: http.client.HTTPResponse, got: int) -> None:
    said = reply.headers.get("Content-Length") or ""
    if said.isdigit() and int(said) != got:
        raise _BrokenError(f"it ended after {got} of {said[:20]} bytes")


def _refused(url: str, status: int, reason: str) -> Exception:
    said = f"{_shown(url)}: the mirror answers {status} {str(reason)[:100]}"
    if status in _AGAIN:
        return _BrokenError(said)
    if status == 416:
        return _RangeError(said)
    return NotThereError(said, remedy=OTHER_MIRROR)


def _wrong(url: str) -> UnavailableError:
    return UnavailableError(
        f"{_shown(url)} is not the file that the mirror's signed index names: the mirror is being updated, damaged or "
        "hostile",
        remedy=f"try again later, or {OTHER_MIRROR}",
    )


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(inner)[:200] or type(inner).__name__


def _shown(url: str) -> str:
    """Without the name and the password that a URL can hold."""
    return re.sub(r"//[^/@]*@", "//", url)[:300]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
