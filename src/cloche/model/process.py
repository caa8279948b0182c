"""Processes inside a sandbox: what is asked, what is known, and the receipt at the end.

Field for field the JSON of the guest's wire (guest/README.md) and of the node's API."""

from __future__ import annotations

from typing import Literal

import msgspec

from cloche.model.errors import InvalidError
from cloche.model.sandbox import check_env

LimitName = Literal["timeout", "memory", "pids", "disk", "output"]
ProcessState = Literal["running", "exited"]
MAX_ARGV_BYTES = 2 << 20
MAX_ENV_BYTES = 4 << 20


class PtySize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rows: int = 24
    cols: int = 80


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`user` None: the sandbox's user. `timeout_seconds` None: no limit. `output_limit_bytes` None: no limit."""

    argv: list[str]
    env: dict[str, str] = {}
    cwd: str | None = None
    user: str | None = None
    stdin: bool = False
    pty: PtySize | None = None
    timeout_seconds: float | None = None
    output_limit_bytes: int | None = None
    tag: str | None = None

    def check(self) -> None:
        """Raise InvalidError naming the field that is wrong."""
        if not self.argv or not self.argv[0]:
            raise InvalidError("argv must name a command", field="argv")
        if any("\0" in part for part in self.argv):
            raise InvalidError("argv may not contain NUL: the kernel cannot pass it", field="argv")
        if sum(len(part.encode("utf-8", "surrogateescape")) for part in self.argv) > MAX_ARGV_BYTES:
            raise InvalidError(f"argv is larger than {MAX_ARGV_BYTES} bytes", field="argv")
        check_env(self.env)
        if sum(len(k) + len(v) for k, v in self.env.items()) > MAX_ENV_BYTES:
            raise InvalidError(f"env is larger than {MAX_ENV_BYTES} bytes", field="env")
        if self.timeout_seconds is not None and self.timeout_seconds <= 0:
            raise InvalidError("timeout_seconds must be above 0", field="timeout_seconds")
        if self.cwd is not None and "\0" in self.cwd:
            raise InvalidError("cwd may not contain NUL", field="cwd")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The receipt: CPU and wall in seconds, memory and output in bytes (the whole process tree that was reaped)."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    output_bytes: int = 0


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`exit_code` is the command's own; 128+N when signal N ended it; 127 not found, 126 cannot execute, 124 timeout.
    `error` says why a command could not start."""

    id: str
    pid: int
    argv: list[str]
    state: ProcessState
    started_at: float
    cwd: str = ""
    user: str = ""
    tag: str | None = None
    pty: bool = False
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    limit_hit: LimitName | None = None
    usage: Usage | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
