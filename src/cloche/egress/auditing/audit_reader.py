"""Reads the audit log for the node, from its end, no further than it has to."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from cloche.egress.deciding.hostindex import HostIndex
from cloche.model.egress import AuditLine, AuditPage, AuditQuery

FILE = "egress.jsonl"
MAX_FILES = 64
MAX_LINES = 10_000
BLOCK = 256 << 10
#: a longer line is nobody's
MAX_LINE = 1 << 20

_decoder = msgspec.json.Decoder(AuditLine)


def read_audit(directory: str, query: AuditQuery) -> AuditPage:
    """The newest lines that fit, oldest first. It reads files, so call it in a thread. A missing log is an empty page;
    torn and foreign lines are passed over. `dropped` is of that part of the log which had to be read."""
    fits = _Filter(query)
    limit = max(0, min(query.limit, MAX_LINES))
    found: list[AuditLine] = []
    dropped = 0
    for line in _newest_first(directory, query.since):
        if len(found) >= limit:
            break
        if line.verdict == "dropped":
            dropped += 1 + line.repeated
        elif fits(line):
            found.append(line)
    return AuditPage(lines=found[::-1], dropped=dropped)


class _Filter:
    def __init__(self, query: AuditQuery) -> None:
        self._query = query
        self._hosts = _index(query.host)

    def __call__(self, line: AuditLine) -> bool:
        query = self._query
        return (
            (query.project_id is None or line.project_id == query.project_id)
            and (query.sandbox_id is None or line.sandbox_id == query.sandbox_id)
            and (query.since is None or line.time + line.duration_seconds >= query.since)
            and (not query.verdicts or line.verdict in query.verdicts)
            and (query.host is None or line.host == query.host or bool(self._hosts and self._hosts.find(line.host)))
        )


def _index(host: str | None) -> HostIndex | None:
    """For a name in any form, or a pattern such as *.example.com. None: it is compared as it is."""
    if host is None or host == "*":
        return None
    index = HostIndex()
    try:
        index.add(host, 0)
    except ValueError:
        return None
    return index


def _newest_first(directory: str, since: float | None) -> Iterator[AuditLine]:
    for fd in _files(directory):
        try:
            # whatever is in a file was written before it was last changed
            if since is not None and os.fstat(fd).st_mtime < since - 1:
                return
            yield from _lines(fd)
        finally:
            os.close(fd)


def _files(directory: str) -> Iterator[int]:
    """Descriptors, the newest first; the caller closes them. A file that is renamed meanwhile is met once."""
    met = set()
    for number in range(MAX_FILES):
        name = f"{FILE}.{number}" if number else FILE
        try:
            fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            if number:
                return
            continue
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) in met:
            os.close(fd)
            continue
        met.add((status.st_dev, status.st_ino))
        yield fd


def _lines(fd: int) -> Iterator[AuditLine]:
    for raw in _raw_lines(fd):
        try:
            yield _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue


def _raw_lines(fd: int) -> Iterator[bytes]:
    """From the last one; what stands behind the last newline is not finished."""
    at = os.fstat(fd).st_size
    rest = b""
    finished = False
    while at > 0:
        size = min(BLOCK, at)
        at -= size
        first, *lines = (os.pread(fd, size, at) + rest).split(b"\n")
        for line in reversed(lines):
            if finished and line:
                yield line
            finished = True
        rest = first[-MAX_LINE:]
    if finished and rest:
        yield rest
