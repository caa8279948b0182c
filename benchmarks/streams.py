"""How many bytes a second go through: a command's output, a file up, a file down; and how much memory that takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Study
from benchmarks.measure import WrongResult
from benchmarks.processes import forget_peak, peak_rss_mib, rss_mib

if TYPE_CHECKING:
    from cloche import Sandbox

GROUP = "streams"
MIB = 1 << 20
OUTPUT_MIB = 1024
FILE_MIB = 256
PIECE = b"\xa5" * (256 << 10)
#: best of these: what else the machine does only slows down
ATTEMPTS = 3
GOAL_MIB_PER_SECOND = 200.0
GOAL_GROWTH_MIB = 32.0


def study() -> Study:
    return Study(GROUP, _figures)


def _figures() -> Iterator[Figure]:
    from cloche import Node, Sandbox

    node = int(Node().health()["pid"])
    with Sandbox.create(memory="1g", disk="600m") as sandbox:
        yield from _measured(f"stdout, {OUTPUT_MIB} MiB", OUTPUT_MIB, node, lambda: _output(sandbox))
        yield from _measured(f"upload, {FILE_MIB} MiB", FILE_MIB, node, lambda: _upload(sandbox))
        yield from _measured(f"download, {FILE_MIB} MiB", FILE_MIB, node, lambda: _download(sandbox))


def _measured(name: str, mib: int, node: int, action: Callable[[], object]) -> Iterator[Figure]:
    before = {"client": rss_mib(os.getpid()), "node": rss_mib(node)}
    for pid in (os.getpid(), node):
        forget_peak(pid)
    action()
    seconds = min(_seconds(action) for _ in range(ATTEMPTS))
    after = {"client": peak_rss_mib(os.getpid()), "node": peak_rss_mib(node)}
    yield Figure(GROUP, name, mib / seconds, "MiB/s", GOAL_MIB_PER_SECOND, more_is_better=True)
    for who, peak in after.items():
        yield Figure(GROUP, f"{name}: growth of the {who}", peak - before[who], "MiB", GOAL_GROWTH_MIB)


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _output(sandbox: Sandbox) -> None:
    seen = 0

    def count(data: bytes) -> None:
        nonlocal seen
        seen += len(data)

    argv = ("head", "-c", f"{OUTPUT_MIB}M", "/dev/zero")
    sandbox.exec(*argv, on_stdout=count, max_output_bytes=0)
    _expect(seen, OUTPUT_MIB * MIB)


def _upload(sandbox: Sandbox) -> None:
    pieces = (PIECE for _ in range(FILE_MIB * MIB // len(PIECE)))
    written = sandbox.files.write_stream("big", pieces)
    _expect(written.size, FILE_MIB * MIB)


def _download(sandbox: Sandbox) -> None:
    _expect(sum(len(piece) for piece in sandbox.files.read_stream("big")), FILE_MIB * MIB)


def _expect(bytes_moved: int, wanted: int) -> None:
    if bytes_moved != wanted:
        raise WrongResult(f"{bytes_moved} bytes came through, not {wanted}")
