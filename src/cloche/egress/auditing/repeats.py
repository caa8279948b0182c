"""Merges what a sandbox is refused again and again, so that a loop in it fills no disk. Pure; times are monotonic.

The first of them is written at once. The others of the next seconds become one line, with the time of the first of
them and their number: over all lines, the sum of `1 + repeated` is what happened."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from cloche.model.egress import AuditLine

WINDOW_SECONDS = 10.0
#: kinds of refusal that are told apart within a window, of one sandbox and of all
MAX_OF_SANDBOX = 512
MAX_KINDS = 8192

_Key = tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    until: float
    line: AuditLine | None = None
    count: int = 0


class Repeats:
    def __init__(self) -> None:
        #: in the order in which their windows end, as all windows have one length
        self._seen: dict[_Key, _Seen] = {}
        self._of_sandbox: dict[str, int] = {}
        self._ended: list[AuditLine] = []

    def offer(self, line: AuditLine, now: float) -> AuditLine | None:
        """The line, when it is to be written now."""
        if line.verdict == "allowed" or line.sent_bytes or line.received_bytes:
            return line
        key = self._key(line)
        seen = self._seen.get(key)
        if seen is not None and now < seen.until:
            _count(seen, line)
            return None
        if seen is not None:
            self._end(key)
        self._begin(key, now)
        return line

    def due(self, now: float) -> list[AuditLine]:
        """Lines of those windows that are over."""
        for key, seen in list(self._seen.items()):
            if now < seen.until:
                break
            self._end(key)
        ended, self._ended = self._ended, []
        return ended

    def flush(self) -> list[AuditLine]:
        """Lines of all windows."""
        return self.due(float("inf"))

    def next_due(self) -> float | None:
        """When `due` has something to do; None: only after another `offer`."""
        return 0.0 if self._ended else next((seen.until for seen in self._seen.values()), None)

    def _key(self, line: AuditLine) -> _Key:
        key = (line.sandbox_id, line.via, line.verdict, line.host, str(line.port), line.rule, line.method, line.path)
        crowded = self._of_sandbox.get(line.sandbox_id, 0) >= MAX_OF_SANDBOX or len(self._seen) >= MAX_KINDS
        # a sandbox that tries another name each time gets one line for all the others, and fills nobody else's log
        return (line.sandbox_id, line.verdict) if crowded and key not in self._seen else key

    def _begin(self, key: _Key, now: float) -> None:
        self._seen[key] = _Seen(until=now + WINDOW_SECONDS)
        self._of_sandbox[key[0]] = self._of_sandbox.get(key[0], 0) + 1

    def _end(self, key: _Key) -> None:
        seen = self._seen.pop(key)
        left = self._of_sandbox.pop(key[0]) - 1
        if left:
            self._of_sandbox[key[0]] = left
        if seen.line is not None:
            self._ended.append(msgspec.structs.replace(seen.line, repeated=seen.count - 1))


def _count(seen: _Seen, line: AuditLine) -> None:
    more = 1 + line.repeated
    if seen.line is None:
        seen.line, seen.count = line, more
        return
    seen.count += more
    if line.host != seen.line.host:
        seen.line = msgspec.structs.replace(seen.line, host="*", port=0, method="", path="", rule="", reason=_MANY)


_MANY = "several, too many to be told apart"
