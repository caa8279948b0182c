"""What the SDK hands back: results, the events of a process's output, and the report of a copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from cloche.model.events import NodeStats, SandboxUse
from cloche.model.limits import Limits
from cloche.model.process import LimitName, ProcessInfo, Usage
from cloche.model.sandbox import Mount, Sandbox, SandboxSpec
from cloche.model.snapshot import Snapshot
from cloche.model.template import Template
from cloche.sdk.egress_values import PolicyInfo, SecretInfo

StreamName = Literal["stdout", "stderr"]
#: how much output of one exec is kept in memory, per stream
MAX_OUTPUT_BYTES = 64 << 20


class _KnownLimits(Limits, frozen=True, kw_only=True, forbid_unknown_fields=False):
    pass


class _KnownMount(Mount, frozen=True, kw_only=True, forbid_unknown_fields=False):
    pass


class SpecInfo(SandboxSpec, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What a sandbox was asked to be. A node that is newer than this client may say more of it than is read here;
    what is sent to a node stays strict (SandboxSpec)."""

    limits: _KnownLimits = msgspec.field(default_factory=_KnownLimits)
    mounts: list[_KnownMount] = []  # type: ignore[assignment]
    egress: PolicyInfo | None = None
    secrets: list[SecretInfo] = []  # type: ignore[assignment]


class SandboxInfo(Sandbox, frozen=True, kw_only=True):
    """A sandbox as its node told it."""

    spec: SpecInfo


class SandboxInfoPage(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first. `next_cursor` is None on the last page."""

    sandboxes: list[SandboxInfo]
    next_cursor: str | None = None


class SandboxUseInfo(SandboxUse, frozen=True, kw_only=True):
    """A sandbox and what it uses."""

    sandbox: SandboxInfo


class NodeUse(NodeStats, frozen=True, kw_only=True):
    """Every living sandbox, oldest first. `time` is UTC seconds."""

    sandboxes: list[SandboxUseInfo]  # type: ignore[assignment]


class TemplateInfo(Template, frozen=True, kw_only=True):
    """A template as its node told it."""

    spec: SpecInfo


class TemplateInfoList(msgspec.Struct, frozen=True, kw_only=True):
    """By name."""

    templates: list[TemplateInfo]


class SnapshotInfo(Snapshot, frozen=True, kw_only=True):
    """A snapshot as its node told it."""

    spec: SpecInfo


class SnapshotInfoList(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first."""

    snapshots: list[SnapshotInfo]


class ForkedInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The new sandboxes."""

    sandboxes: list[SandboxInfo]


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes that a process wrote. `offset` is that of the first of them in its stream."""

    stream: StreamName
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """`lost_bytes` of a stream were overwritten before anybody read them; it goes on at `offset`."""

    stream: StreamName
    offset: int
    lost_bytes: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The last event of a process: its receipt."""

    info: ProcessInfo


ProcessEvent = Output | Gap | Exited


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command ended. `exit_code` is its own: 124 timeout, 126 cannot execute, 127 not found (`error` says why),
    128+N when signal N ended it. `truncated`: more was written than was kept; `gaps`: bytes that nobody could read."""

    process_id: str
    exit_code: int
    stdout_bytes: bytes
    stderr_bytes: bytes
    usage: Usage
    limit_hit: LimitName | None = None
    signal: int | None = None
    error: str | None = None
    truncated: bool = False
    gaps: tuple[Gap, ...] = ()

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the command exited with 0."""
        return self.exit_code == 0

    def to_json(self) -> dict[str, Any]:
        """The object that `cloche exec --json` prints."""
        return {
            "process_id": self.process_id,
            "exit_code": self.exit_code,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "usage": msgspec.to_builtins(self.usage),
            "limit_hit": self.limit_hit,
            "signal": self.signal,
            "error": self.error,
            "truncated": self.truncated,
            "gaps": [{"stream": gap.stream, "offset": gap.offset, "lost_bytes": gap.lost_bytes} for gap in self.gaps],
        }


class CommandFailedError(Exception):
    """`check=True` was asked for and the command exited non-zero: the command's failure, not Cloche's."""

    def __init__(self, argv: tuple[str, ...], result: ExecResult) -> None:
        last = result.stderr.strip().splitlines()[-1:] or [result.error or ""]
        super().__init__(f"{argv[0]!r} exited with {result.exit_code}: {last[0][:500]}")
        self.argv = argv
        self.result = result


@dataclass(slots=True)
class CopyReport:
    """What a copy between host and sandbox did. `refused`: entries that were left out, each with the reason."""

    files: int = 0
    bytes: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
