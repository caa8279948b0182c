"""This program's own standard streams joined to a process in a sandbox."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from cloche.cli.failure import say
from cloche.cli.interrupts import Ended, forwarded
from cloche.model.errors import ClocheError, InvalidError
from cloche.model.process import ProcessInfo, PtySize
from cloche.sdk._sync.process import Process
from cloche.sdk.values import Exited, Gap, Output

PIECE_BYTES = 64 << 10


def terminal_size() -> PtySize:
    size = shutil.get_terminal_size()
    return PtySize(rows=size.lines, cols=size.columns)


def require_terminal() -> None:
    """Raise InvalidError when -t was given and there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidError("-t needs a terminal on stdin and stdout", remedy="leave -t out; -i alone passes stdin on")


def run(process: Process, *, stdin: bool, terminal: bool) -> ProcessInfo:
    """Until the process ends: its output to this program's, and this program's input to it. The process is killed
    when the output cannot be written or this program is told to end."""
    with ExitStack() as stack:
        if terminal:
            stack.enter_context(raw_terminal())
            stack.enter_context(resizing(process))
        else:
            stack.enter_context(forwarded(process, (signal.SIGINT,)))
        if stdin or terminal:
            threading.Thread(target=_pass_input, args=(process,), daemon=True, name="cloche-input").start()
        try:
            return _show(process, follow=True) or process.info
        except (BrokenPipeError, KeyboardInterrupt, Ended):
            _kill(process)
            raise


def show(process: Process, *, follow: bool, only: str | None = None) -> ProcessInfo | None:
    """Its output on this program's streams. None: it still runs. `only`: "stdout" or "stderr"."""
    return _show(process, follow=follow, only=only)


@contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes to the process; the terminal is as it was afterwards, however this is left."""
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def resizing(process: Process) -> Iterator[None]:
    """The process's terminal follows the size of this one."""
    changed: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def note(number: int, frame: FrameType | None) -> None:
        changed.put(True)

    before = signal.signal(signal.SIGWINCH, note)
    threading.Thread(target=_resize, args=(process, changed), daemon=True, name="cloche-size").start()
    changed.put(True)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
        changed.put(False)


def write_all(descriptor: int, data: bytes) -> None:
    """Bytes as they are. Raises BrokenPipeError when nobody reads them any more."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _show(process: Process, *, follow: bool, only: str | None = None) -> ProcessInfo | None:
    for event in process.output(follow=follow):
        if isinstance(event, Output):
            if only in (None, event.stream):
                write_all(1 if event.stream == "stdout" else 2, event.data)
        elif isinstance(event, Gap):
            say(f"cloche: {event.lost_bytes} bytes of {event.stream} were lost before they could be read")
        elif isinstance(event, Exited):
            return event.info
    return None


def _pass_input(process: Process) -> None:
    try:
        process.feed(iter(lambda: os.read(0, PIECE_BYTES), b""))
    except (ClocheError, OSError):
        pass


def _resize(process: Process, changed: queue.SimpleQueue[bool]) -> None:
    while changed.get():
        size = terminal_size()
        try:
            process.resize(size.rows, size.cols)
        except ClocheError:
            pass


def _kill(process: Process) -> None:
    try:
        process.kill()
    except ClocheError:
        pass
