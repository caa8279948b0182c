"""This program's own standard streams joined to a process in a sandbox."""

from __future__ import annotations

import os
import queue
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from cloche.cli import terminal as own_terminal
from cloche.cli.failure import say
from cloche.cli.gate import Gate
from cloche.cli.interrupts import Ended, Watch, told
from cloche.model.errors import ClocheError
from cloche.model.process import ProcessInfo
from cloche.sdk._sync.process import Process
from cloche.sdk.collect import Collector
from cloche.sdk.values import MAX_OUTPUT_BYTES, ExecResult, Exited, Gap, Output

if TYPE_CHECKING:  # a command without questions does not import what asks them
    from cloche.cli.asking import Source

PIECE_BYTES = 64 << 10
#: pieces of input that may wait for the process; a terminal gives at most 4 KiB at once
WAITING_PIECES = 256


def run(process: Process, watch: Watch, asks: Source | None, *, stdin: bool, terminal: bool) -> ProcessInfo:
    """Until the process ends: its output to this program's, and this program's input to it. What the network policy
    of its sandbox `asks` meanwhile is asked here. The process is killed when the output cannot be written or this
    program is told to end."""
    screen, gate = own_terminal.ScreenWatch(), Gate()
    try:
        with ExitStack() as stack:
            if terminal:
                stack.enter_context(own_terminal.raw(screen))
                stack.enter_context(own_terminal.resizing(process))
            else:
                stack.enter_context(told(lambda number: _interrupt(process, gate, number), (signal.SIGINT,)))
            stack.callback(gate.close)
            if asks is not None:
                from cloche.cli import asking

                face = asking.PanelFace(gate, screen, process) if terminal else asking.face(gate, stdin=stdin)
                asking.begin(asks, face)
            if stdin or terminal:
                pieces = _typed(gate) if terminal else read_stdin()
                _in_background(lambda: _pass_input(process, pieces), "cloche-input")
            seen = screen.note if terminal else None
            return watch.interruptible(lambda: _show(process, follow=True, seen=seen, gate=gate)) or process.info
    except (OSError, KeyboardInterrupt, Ended):
        kill(process)
        raise


def collect(process: Process, watch: Watch, *, stdin: bool) -> ExecResult:
    """Like `run`, with the output kept instead of shown, and no signal handed to the process."""
    collector = Collector(MAX_OUTPUT_BYTES)
    if stdin:
        _in_background(lambda: _pass_input(process, read_stdin()), "cloche-input")
    try:
        watch.interruptible(lambda: _take_all(process, collector))
    except (KeyboardInterrupt, Ended):
        kill(process)
        raise
    return collector.result(process.info)


def show(process: Process, *, follow: bool, only: str | None = None) -> ProcessInfo | None:
    """Its output on this program's streams. None: it still runs. `only`: "stdout" or "stderr"."""
    return _show(process, follow=follow, only=only)


def kill(process: Process) -> None:
    """End it; a process or a node that is gone already is no failure."""
    with suppress(ClocheError):
        process.kill()


def write_all(descriptor: int, data: bytes) -> None:
    """Bytes as they are, also where somebody has made the descriptor non-blocking. Raises BrokenPipeError when nobody
    reads them any more, OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def read_stdin() -> Iterator[bytes]:
    """Standard input, piece by piece."""
    while True:
        try:
            piece = os.read(0, PIECE_BYTES)
        except BlockingIOError:
            select.select([0], [], [])
            continue
        if not piece:
            return
        yield piece


def _interrupt(process: Process, gate: Gate, number: int) -> None:
    gate.interrupt()
    process.signal(number)


def _show(
    process: Process, *, follow: bool, only: str | None = None, seen: Callable[[bytes], None] | None = None,
    gate: Gate | None = None,
) -> ProcessInfo | None:  # fmt: skip
    gate = gate or Gate()
    for event in process.output(follow=follow):
        if isinstance(event, Output):
            if seen is not None:
                seen(event.data)
            if only in (None, event.stream):
                descriptor = 1 if event.stream == "stdout" else 2
                gate.write(event.data, partial(write_all, descriptor))
        elif isinstance(event, Gap):
            say(f"cloche: {event.lost_bytes} bytes of {event.stream} were lost before they could be read")
        elif isinstance(event, Exited):
            return event.info
    return None


def _take_all(process: Process, collector: Collector) -> None:
    for event in process.output():
        collector.take(event)


def _pass_input(process: Process, pieces: Iterator[bytes]) -> None:
    with suppress(ClocheError, OSError):
        process.feed(pieces)


def _typed(gate: Gate) -> Iterator[bytes]:
    """What is typed. The keys are read even while the process takes none, so that it can be left."""
    waiting: queue.Queue[bytes] = queue.Queue(WAITING_PIECES)
    _in_background(lambda: _read_keys(waiting, gate), "cloche-keys")
    while piece := waiting.get():
        yield piece


def _read_keys(waiting: queue.Queue[bytes], gate: Gate) -> None:
    keys = own_terminal.LeaveKeys(_leave)
    with suppress(OSError):
        for piece in read_stdin():
            keys.watch(piece)
            if not gate.typed(piece):
                waiting.put(piece)
    waiting.put(b"")


def _leave() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _in_background(work: Callable[[], None], name: str) -> None:
    threading.Thread(target=work, daemon=True, name=name).start()
