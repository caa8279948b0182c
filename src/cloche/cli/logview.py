"""What processes wrote, shown in other ways than whole and from the beginning: the newest lines, several at once."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from cloche.cli import attach
from cloche.cli.failure import report, say
from cloche.cli.render import clean, command_of
from cloche.model.errors import ClocheError
from cloche.model.process import ProcessInfo
from cloche.sdk._sync.process import Process
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import Gap, Output, StreamName

Line = tuple[StreamName, bytes]
#: longer lines are shown in pieces, so that a process without newlines takes no memory here
MAX_LINE_BYTES = 64 << 10
MAX_ARGV = 200
#: lines that may wait for a slow reader
WAITING_LINES = 1000


def tail(process: Process, count: int, *, follow: bool, only: str | None) -> None:
    """The newest `count` lines that are kept of both streams together; then with `follow` what comes."""
    newest = deque(lines(process, follow=False, only=only), maxlen=count)
    _write(newest)
    if follow:
        attach.show(process, follow=True, only=only)


def each(sandbox: Sandbox, *, tail_lines: int | None, only: str | None) -> None:
    """One process after the other, oldest first, with headings on standard error."""
    for number, info in enumerate(sandbox.processes()):
        say(f"{chr(10) if number else ''}==> {heading(info)} <==")
        process = sandbox.process(info.id)
        if tail_lines is None:
            attach.show(process, follow=False, only=only)
        else:
            tail(process, tail_lines, follow=False, only=only)


def together(sandbox: Sandbox, *, tail_lines: int | None, only: str | None) -> None:
    """All processes that are known now, line by line as they come, each line behind the number of its process."""
    known = sandbox.processes()
    found: queue.Queue[Line | None] = queue.Queue(WAITING_LINES)
    for info in known:
        work = (sandbox.process(info.id), tail_lines, only, found)
        threading.Thread(target=_feed, args=work, daemon=True, name="cloche-logs").start()
    left = len(known)
    while left:
        line = found.get()
        if line is None:
            left -= 1
        else:
            _write([line])


def heading(info: ProcessInfo) -> str:
    """Which process, what it runs, and how it is."""
    state = f"exit {info.exit_code}" if info.state != "running" else "running"
    return f"{clean(f'{info.id} {state}')}: {command_of(info, MAX_ARGV)}"


def lines(process: Process, *, follow: bool, only: str | None) -> Iterator[Line]:
    """Whole lines of each stream in the order in which they end; what has no newline at the end comes last."""
    rest: dict[StreamName, bytes] = {"stdout": b"", "stderr": b""}
    for event in process.output(follow=follow):
        if isinstance(event, Gap):
            say(f"cloche: {event.lost_bytes} bytes of {event.stream} were lost before they could be read")
        if not isinstance(event, Output) or only not in (None, event.stream):
            continue
        *whole, last = (rest[event.stream] + event.data).split(b"\n")
        yield from ((event.stream, line + b"\n") for line in whole)
        if len(last) > MAX_LINE_BYTES:
            yield event.stream, last
            last = b""
        rest[event.stream] = last
    yield from ((stream, last) for stream, last in rest.items() if last)


def _feed(process: Process, tail_lines: int | None, only: str | None, found: queue.Queue[Line | None]) -> None:
    prefix = f"{process.pid} | ".encode()
    try:
        if tail_lines is not None:
            for stream, line in deque(lines(process, follow=False, only=only), maxlen=tail_lines):
                found.put((stream, prefix + line))
        for stream, line in lines(process, follow=True, only=only):
            found.put((stream, prefix + line.removesuffix(b"\n") + b"\n"))
    except ClocheError as error:
        report(error)
    finally:
        found.put(None)


def _write(found: Sequence[Line] | deque[Line]) -> None:
    for stream, line in found:
        attach.write_all(1 if stream == "stdout" else 2, line)
