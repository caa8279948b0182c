"""The audit log: one JSON line for each decision, in `HOME/audit/egress.jsonl` and older files beside it.

The door writes (AuditWriter), the node reads (`audit_reader.py`)."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque

import msgspec

from cloche.egress.auditing.audit_reader import FILE, read_audit
from cloche.egress.auditing.repeats import Repeats
from cloche.egress.auditing.shares import Shares, Sums
from cloche.model.egress import AuditLine

__all__ = ["AuditWriter", "read_audit"]

#: of the queue, for one sandbox: nobody's lines are lost because of another's
SHARE_OF_QUEUE = 4
#: sandboxes of which there are sums of what did not fit into it
MAX_CROWDED = 256
#: written at once; a queue that is fuller gives several writes
BATCH = 512
#: of a path or a reason: what the code chose must not make a line of any length
MAX_TEXT = 2048
MAX_WORD = 256

log = logging.getLogger(__name__)


class AuditWriter:
    """Writes in a thread of its own and never makes its caller wait: what the disk does not take in time is dropped and
    counted; of what has moved bytes there are sums, which nobody can hide behind a slow disk. `directory` is made when
    it is missing (0700); its files are 0600."""

    def __init__(self, directory: str, *, max_bytes: int = 16 << 20, files: int = 8, queue: int = 8192) -> None:
        self._log = _Log(directory, max_bytes, files)
        self._queue: deque[AuditLine] = deque()
        self._waiting: Counter[str] = Counter()
        self._crowded: dict[str, Sums] = {}
        self._most = queue
        self._dropped = 0
        self._reported = 0
        self._changed = threading.Condition()
        self._closed = False
        self._repeats, self._shares = Repeats(), Shares()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def write(self, line: AuditLine) -> None:
        """From any thread; never blocks for longer than it takes to put it into a queue, never raises."""
        with self._changed:
            crowded = self._waiting[line.sandbox_id] >= max(1, self._most // SHARE_OF_QUEUE)
            if self._closed or crowded or len(self._queue) >= self._most:
                self._turn_away(line)
                return
            self._queue.append(line)
            self._waiting[line.sandbox_id] += 1
            if len(self._queue) == 1:
                self._changed.notify()

    def _turn_away(self, line: AuditLine) -> None:
        sums = self._crowded.get(line.sandbox_id)
        has_room = sums is not None or len(self._crowded) < MAX_CROWDED
        if self._closed or not has_room or not (line.sent_bytes or line.received_bytes):
            self._dropped += 1
            return
        self._crowded.setdefault(line.sandbox_id, Sums()).add(line)

    @property
    def dropped(self) -> int:
        """Lines that were not written, since it began."""
        return self._dropped

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Write what waits, for at most so long. A second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            batch, closed = self._take()
            ends = closed and not batch
            self._guarded_put(batch, ends)
            if ends:
                break
        self._log.close()

    def _worth_writing(self, batch: list[AuditLine], now: float, ends: bool) -> list[AuditLine]:
        """What repeats is counted, and what is more than its sandbox's share is summed up."""
        told = [kept for line in batch if (kept := self._repeats.offer(line, now)) is not None]
        told += self._repeats.flush() if ends else self._repeats.due(now)
        lines = [kept for line in told if (kept := self._shares.offer(line, now)) is not None]
        return lines + (self._shares.flush() if ends else self._shares.due(now))

    def _take(self) -> tuple[list[AuditLine], bool]:
        """Wait for lines, or for repeats to be due."""
        with self._changed:
            if not self._queue and not self._closed:
                due = [at for at in (self._repeats.next_due(), self._shares.next_due()) if at is not None]
                self._changed.wait(max(0.0, min(due) - time.monotonic()) if due else None)
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            self._waiting -= Counter(line.sandbox_id for line in batch)
            crowded, self._crowded = self._crowded, {}
            closed = self._closed
        return batch + [line for sums in crowded.values() for line in sums.taken()], closed

    def _guarded_put(self, batch: list[AuditLine], ends: bool) -> None:
        """One line that cannot be written must not be the last."""
        lines = batch
        try:
            lines = self._worth_writing(batch, time.monotonic(), ends)
            self._put(lines)
        except Exception:
            log.exception("%d lines of the audit are lost", len(lines))
            with self._changed:
                self._dropped += len(lines)

    def _put(self, lines: list[AuditLine]) -> None:
        dropped = self._dropped
        if dropped > self._reported:
            lines.append(_lost(dropped - self._reported))
        if not lines:
            return
        if self._log.write([encode_line(line) for line in lines]):
            self._reported = max(self._reported, dropped)
            return
        with self._changed:
            self._dropped += sum(line.verdict != LOST for line in lines)


#: verdict of the line that says that lines before it are missing
LOST = "dropped"


def encode_line(line: AuditLine) -> bytes:
    """With its newline. What is too long is cut, and no text of the code's can end the line."""
    changes: dict[str, str] = {}
    for name in ("path", "reason", "rule"):
        if len(value := getattr(line, name)) > MAX_TEXT:
            changes[name] = value[:MAX_TEXT] + "…"
    for name in ("host", "sni", "method", "process", "address", "protocol"):
        if len(value := getattr(line, name)) > MAX_WORD:
            changes[name] = value[:MAX_WORD] + "…"
    try:
        return msgspec.json.encode(msgspec.structs.replace(line, **changes) if changes else line) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_without_surrogates(line)) + b"\n"


def _without_surrogates(line: AuditLine) -> AuditLine:
    texts = {name: value for name in line.__struct_fields__ if isinstance(value := getattr(line, name), str)}
    cleaned = {name: value[:MAX_TEXT].encode(errors="replace").decode() for name, value in texts.items()}
    return msgspec.structs.replace(line, **cleaned)


def _lost(count: int) -> AuditLine:
    return AuditLine(time=time.time(), sandbox_id="", via="audit", verdict=LOST, host="", repeated=count - 1)


class _Log:
    """One file that is appended to, and renamed away when it is full. Used by one thread."""

    def __init__(self, directory: str, max_bytes: int, files: int) -> None:
        self._path = os.path.join(directory, FILE)
        self._max_bytes, self._files = max_bytes, files
        self._fd: int | None = None
        self._size = 0
        self._torn = False

    def write(self, lines: list[bytes]) -> bool:
        """False: they are not there (a part of the first ones may be)."""
        try:
            for piece in self._pieces(lines):
                self._write_all(piece)
        except OSError:
            self._torn = self._torn or self._fd is not None
            return False
        return True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _pieces(self, lines: list[bytes]) -> list[bytes]:
        """So small that a file becomes only a little larger than it may."""
        pieces, current = [], bytearray()
        for line in lines:
            current += line
            if len(current) >= min(self._max_bytes, 256 << 10):
                pieces.append(bytes(current))
                current = bytearray()
        return [*pieces, bytes(current)] if current else pieces

    def _write_all(self, data: bytes) -> None:
        if self._fd is None or self._is_gone():
            self._open()
        if self._size >= self._max_bytes:
            self._rotate()
            self._open()
        assert self._fd is not None
        view = memoryview(b"\n" + data if self._torn else data)
        while view:
            written = os.write(self._fd, view)
            view, self._size = view[written:], self._size + written
            self._torn = bool(view)

    def _open(self) -> None:
        self.close()
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        os.fchmod(self._fd, 0o600)
        self._size = os.fstat(self._fd).st_size
        # whoever wrote before may have died within a line
        self._torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"

    def _is_gone(self) -> bool:
        """Somebody else may have renamed or removed it."""
        assert self._fd is not None
        try:
            return os.stat(self._path).st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return True

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files - 1, 0, -1):
            older = f"{self._path}.{number}"
            newer = f"{self._path}.{number - 1}" if number > 1 else self._path
            try:
                os.rename(newer, older)
            except FileNotFoundError:
                continue
