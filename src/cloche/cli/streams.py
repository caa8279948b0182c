"""The three standard descriptors, whatever state this program was started with."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from cloche.cli import failure


def prepare() -> None:
    """Make them usable: what was closed is opened so that nothing else gets its number, reading it ends at once and
    writing to it fails; text that the terminal cannot show is escaped; nothing prints a traceback by itself."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if _is_closed(number):
            _fill(number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False, errors="backslashreplace"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("CLOCHE_DEBUG") != "1":
        sys.unraisablehook = _unraisable
        threading.excepthook = _in_thread


def flush(status: int) -> int:
    """Write what is left → the status, or another one when that failed and nothing worse had happened."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = status or 128 + signal.SIGPIPE
    except (OSError, ValueError) as error:
        status = status or failure.report(error)
    failure.say("", end="")
    return status


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _fill(number: int) -> None:
    # read-only, so that writing is an error and nothing is lost silently
    opened = os.open(os.devnull, os.O_RDONLY)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)


def _unraisable(found: Any) -> None:
    """An interrupt that came where nothing can be raised, such as in a finalizer, is sent again."""
    number = (
        signal.SIGINT if isinstance(found.exc_value, KeyboardInterrupt) else getattr(found.exc_value, "number", None)
    )
    if number is not None:
        threading.Thread(target=os.kill, args=(os.getpid(), number), daemon=True).start()


def _in_thread(found: Any) -> None:
    failure.say(f"cloche: unexpected failure in the background: {found.exc_type.__name__}")
