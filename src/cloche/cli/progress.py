"""One line on stderr for what takes longer than a second, on a terminal only and gone afterwards."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

#: what is over sooner needs no line
PATIENCE_SECONDS = 1.0
#: after which the reason is told, where one is known
EXPLAIN_SECONDS = 3.0
REDRAW_SECONDS = 0.2
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@contextmanager
def waiting(what: str, why: str = "") -> Iterator[None]:
    """Say `what` this program waits for, with the seconds so far, when it takes long, and then `why` it may."""
    began = time.monotonic()
    with shown(lambda: waited(what, time.monotonic() - began, why)):
        yield


def waited(what: str, seconds: float, why: str = "") -> str:
    """making a sandbox … 8 s (why)"""
    told = f" ({why})" if why and seconds >= EXPLAIN_SECONDS else ""
    return f"{what} … {seconds:.0f} s{told}"


@contextmanager
def shown(text: Callable[[], str]) -> Iterator[None]:
    """Show `text()` again and again, unless it is over soon or nobody watches."""
    if not wanted():
        yield
        return
    line = _Line(text)
    line.start()
    try:
        yield
    finally:
        line.end()


def wanted() -> bool:
    """Whether stderr is a terminal that can take a line back, and neither `--quiet` nor `--json` was given."""
    context = click.get_current_context(silent=True)
    while context is not None:
        if context.params.get("quiet") or context.params.get("as_json"):
            return False
        context = context.parent
    try:
        return os.isatty(sys.stderr.fileno()) and os.environ.get("TERM", "dumb") != "dumb"
    except (OSError, ValueError, AttributeError):
        return False


class Meter:
    """Counts bytes as they pass and says how far they are: "12.0 MiB of 40.0 MiB, 6.1 MiB/s"."""

    def __init__(self, what: str, total: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._clock = what, total, clock
        self._began = clock()
        self._done = 0

    def counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._done += len(piece)
            yield piece

    def __str__(self) -> str:
        rate = self._done / max(self._clock() - self._began, 0.001)
        total = f" of {amount(self._total)}" if self._total is not None else ""
        return f"{amount(self._done)}{total}, {amount(rate)}/s  {self._what}"


def amount(count: float) -> str:
    """1536 → "1.5 KiB"."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{count:.0f} {_UNITS[0]}"


class _Line:
    """Drawn by a thread of its own, since the one that waits is busy waiting."""

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._drawn = False

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True, name="cloche-progress").start()

    def end(self) -> None:
        self._over.set()
        with self._lock:
            if self._drawn:
                _write("\r\x1b[K")

    def _run(self) -> None:
        seconds = PATIENCE_SECONDS
        while not self._over.wait(seconds):
            self._draw()
            seconds = REDRAW_SECONDS

    def _draw(self) -> None:
        from cloche.cli.render import clean

        with self._lock:
            if not self._over.is_set():
                self._drawn = True
                _write(f"\r{clean(self._text())[: _columns() - 1]}\x1b[K")


def _columns() -> int:
    try:
        return max(2, os.get_terminal_size(2).columns or 80)
    except OSError:
        return 80


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
