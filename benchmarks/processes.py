"""What the kernel says of processes: memory, CPU time, context switches."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def pss_kib(pid: int) -> int:
    """Proportional set size: shared pages are counted in parts."""
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def peak_rss_mib(pid: int) -> float:
    """Since the start or the last `forget_peak`."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM:") / 1024


def rss_mib(pid: int) -> float:
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:") / 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """User and system, children that were waited for excluded."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def switches(pid: int) -> int:
    """How often it went to sleep by itself: wake-ups, of all its threads."""
    return sum(_field(status, "voluntary_ctxt_switches:") for status in Path(f"/proc/{pid}/task").glob("*/status"))


def descendants(root: int) -> list[int]:
    """Of `root`, by the kernel's own lists of children; those that end meanwhile are left out."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        for children in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids = [int(pid) for pid in children.read_text().split()]
                found += pids
                waiting += pids
    return found


def memory_available_kib() -> int:
    return _field(Path("/proc/meminfo"), "MemAvailable:")


def _field(path: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
