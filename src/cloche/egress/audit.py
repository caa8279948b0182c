"""The audit log: one JSON line for each decision, in `HOME/audit/egress.jsonl` and older files beside it.

The door writes (AuditWriter), the node reads (read_audit)."""

from __future__ import annotations

from cloche.model.egress import AuditLine, AuditPage, AuditQuery


class AuditWriter:
    """Writes in a thread of its own and never makes its caller wait: what the disk does not take is dropped and
    counted. `directory` is made when it is missing (0700); its files are 0600."""

    def __init__(self, directory: str, *, max_bytes: int = 16 << 20, files: int = 8, queue: int = 8192) -> None:
        raise NotImplementedError

    def write(self, line: AuditLine) -> None:
        """From any thread; never blocks, never raises."""
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        """Lines that were not written, since it began."""
        raise NotImplementedError

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Write what waits, for at most so long. A second call does nothing."""
        raise NotImplementedError


def read_audit(directory: str, query: AuditQuery) -> AuditPage:
    """The newest lines that fit, oldest first. It reads files, so call it in a thread. A missing log is an empty page;
    torn and foreign lines are passed over."""
    raise NotImplementedError
