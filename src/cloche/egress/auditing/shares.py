"""How much of the log one sandbox may fill, so that none turns it over and takes away what is told of the others. Pure;
times are monotonic.

A sandbox has its lines one by one until it has filled its share. From then on those of one kind become one line a
minute: with the time of the first, the bytes of all, and their number. Over all lines, the sum of `1 + repeated` is
what happened, and the sums of bytes are what moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from cloche.egress.budget import TokenBucket
from cloche.model.egress import AuditLine

#: of one sandbox: about three thousand lines at once, and one or two a second for ever
BYTES_AT_ONCE = 1 << 20
BYTES_PER_SECOND = 512
SUM_SECONDS = 60.0
#: kinds of one verdict with a line of their own in a minute, those that have sent the most; the others share one, so
#: that what was allowed hides nothing
MAX_KINDS = 8
#: that are told apart until the minute is over: of the shared line at least the hosts are known
MAX_APART = 32
MAX_SANDBOXES = 4096
MANY = "several, too many to be told apart"
#: of a line that cannot be written as it is
_MOST_BYTES = 16 << 10
_MAX_REASON = 200
_MAX_NAMES = 600

_Kind = tuple[str, ...]


@dataclass(slots=True)
class _Sum:
    line: AuditLine
    ends: float
    count: int
    sent: int
    received: int

    def add(self, other: _Sum) -> None:
        self.line = _common(self.line, other.line)
        self.ends = max(self.ends, other.ends)
        self.count += other.count
        self.sent, self.received = self.sent + other.sent, self.received + other.received


class Shares:
    """Of all sandboxes."""

    def __init__(self) -> None:
        #: the one that was heard of last is the last
        self._shares: dict[str, _Share] = {}
        #: those with sums, in the order in which their minutes end
        self._until: dict[str, float] = {}

    def offer(self, line: AuditLine, now: float) -> AuditLine | None:
        """The line, when it is to be written now; else it is in a sum."""
        share = self._share(line.sandbox_id, now)
        if share.admits(line, now):
            return line
        self._until.setdefault(line.sandbox_id, now + SUM_SECONDS)
        share.add(line)
        return None

    def due(self, now: float) -> list[AuditLine]:
        """The sums of minutes that are over."""
        found: list[AuditLine] = []
        for sandbox_id, until in list(self._until.items()):
            if now < until:
                break
            del self._until[sandbox_id]
            found += self._shares[sandbox_id].taken()
        return found

    def flush(self) -> list[AuditLine]:
        """All sums."""
        return self.due(float("inf"))

    def next_due(self) -> float | None:
        """When `due` has something to do; None: only after another `offer`."""
        return next(iter(self._until.values()), None)

    def _share(self, sandbox_id: str, now: float) -> _Share:
        share = self._shares.pop(sandbox_id, None) or _Share(now)
        self._shares[sandbox_id] = share
        if len(self._shares) > MAX_SANDBOXES:
            oldest = next((known for known in self._shares if known not in self._until), None)
            if oldest is not None:
                del self._shares[oldest]
        return share


class _Share:
    def __init__(self, now: float) -> None:
        self._bucket = TokenBucket(BYTES_PER_SECOND, BYTES_AT_ONCE, now)
        self._sums = Sums()
        self._now = now

    def admits(self, line: AuditLine, now: float) -> bool:
        """Never while others of it are being summed up: lines stay in the order of their kinds."""
        self._now = now
        if self._sums or self._bucket.available(now) < 1:
            return False
        self._bucket.take(_size(line))
        return True

    def add(self, line: AuditLine) -> None:
        self._sums.add(line)

    def taken(self) -> list[AuditLine]:
        """The sums; they are paid for as well, as far as there is something left."""
        lines = self._sums.taken()
        self._bucket.take(min(sum(map(_size, lines)), max(0.0, self._bucket.available(self._now))))
        return lines


class Sums:
    """Of lines of one sandbox; false while there are none."""

    def __init__(self) -> None:
        #: by verdict
        self._apart: dict[str, dict[_Kind, _Sum]] = {}
        self._many: dict[str, _Sum] = {}

    def __bool__(self) -> bool:
        return bool(self._apart)

    def add(self, line: AuditLine) -> None:
        kind: _Kind = (line.via, line.host, str(line.port), line.rule)
        apart = self._apart.setdefault(line.verdict, {})
        one = _sum_of(line)
        known = apart.get(kind)
        if known is not None:
            known.add(one)
            return
        if len(apart) >= MAX_APART:
            # many small ones must not push out what has sent much
            self._share_line(apart.pop(min(apart, key=lambda other: apart[other].sent)))
        apart[kind] = one

    def taken(self) -> list[AuditLine]:
        """As lines; none are left."""
        lines = [line for verdict in self._apart for line in self._of_verdict(verdict)]
        self._apart.clear()
        self._many.clear()
        return lines

    def _of_verdict(self, verdict: str) -> list[AuditLine]:
        most = sorted(self._apart[verdict].values(), key=lambda each: each.sent, reverse=True)
        lines = [_written(each) for each in most[:MAX_KINDS]]
        hosts = [each.line.host for each in most[MAX_KINDS:]]
        for each in most[MAX_KINDS:]:
            self._share_line(each)
        if (many := self._many.get(verdict)) is not None:
            lines.append(_naming(_written(many), hosts))
        return lines

    def _share_line(self, one: _Sum) -> None:
        one.line = _of_many(one.line)
        known = self._many.setdefault(one.line.verdict, one)
        if known is not one:
            known.add(one)


def _sum_of(line: AuditLine) -> _Sum:
    ends = line.time + line.duration_seconds
    return _Sum(_short(line), ends, 1 + line.repeated, line.sent_bytes, line.received_bytes)


def _size(line: AuditLine) -> int:
    """On the disk, or more: the names that a sandbox gives its programs may take six bytes for each character."""
    try:
        return len(msgspec.json.encode(line)) + 1
    except (TypeError, ValueError):
        return _MOST_BYTES


def _written(known: _Sum) -> AuditLine:
    line = known.line
    return msgspec.structs.replace(
        line, sent_bytes=known.sent, received_bytes=known.received, repeated=known.count - 1,
        duration_seconds=max(0.0, known.ends - line.time),
    )  # fmt: skip


def _short(line: AuditLine) -> AuditLine:
    """Without what may be long: the path is the code's."""
    return msgspec.structs.replace(line, path="", reason=line.reason[:_MAX_REASON])


#: what lines of one kind need not have in common
_DIFFERING = ("via", "reason", "protocol", "tls", "sni", "address", "method", "status", "process", "pid", "sandbox")


def _common(first: AuditLine, other: AuditLine) -> AuditLine:
    """What is true of both."""
    empty: dict[str, object] = {name: None if name == "sandbox" else type(getattr(first, name))()
                                for name in _DIFFERING if getattr(first, name) != getattr(other, name)}  # fmt: skip
    time = min(first.time, other.time)
    if not empty and time == first.time:
        return first
    return msgspec.structs.replace(first, time=time, **empty)


def _of_many(line: AuditLine) -> AuditLine:
    return AuditLine(
        time=line.time, sandbox_id=line.sandbox_id, sandbox=line.sandbox, project_id=line.project_id, via=line.via,
        verdict=line.verdict, host="*", reason=MANY,
    )  # fmt: skip


def _naming(line: AuditLine, hosts: Iterable[str]) -> AuditLine:
    """With the hosts that are known, as far as there is room."""
    names = ", ".join(dict.fromkeys(host for host in hosts if host and host != "*"))
    if not names:
        return line
    shown = names if len(names) <= _MAX_NAMES else names[:_MAX_NAMES] + "…"
    return msgspec.structs.replace(line, reason=f"{MANY}: {shown}")
