"""Checks of decoded answers that types alone do not express. Everything checked here came from inside a sandbox."""

from __future__ import annotations

import math
import re

from cloche.guest_api.models import GuestHealth, GuestStats
from cloche.model.errors import GuestError
from cloche.model.file import FileInfo, TarSummary, WatchEvent
from cloche.model.process import MAX_ARGV_BYTES, ProcessInfo, Usage

PROCESS_ID = re.compile(r"p_[0-9A-Za-z]{26}")
MAX_PATH_CHARS = 64 << 10
MAX_NAME_CHARS = 4096
MAX_USERS = 4096
MAX_TIME = 1e11
MAX_INTEGER = (1 << 63) - 1


def require(holds: bool, what: str) -> None:
    if not holds:
        raise GuestError(f"the guest's answer is out of bounds: {what}")


def process(info: ProcessInfo, process_id: str | None = None) -> ProcessInfo:
    """Raise GuestError unless the information is possible, and of the process that was asked for."""
    require(bool(PROCESS_ID.fullmatch(info.id)), "process id")
    require(process_id is None or info.id == process_id, "another process's id")
    require(0 <= info.pid <= 1 << 31, "pid")
    require(sum(map(len, info.argv)) <= MAX_ARGV_BYTES, "argv")
    _text(info.cwd, MAX_PATH_CHARS, "cwd")
    for field in (info.user, info.tag, info.error):
        _text(field or "", MAX_NAME_CHARS, "user, tag or error")
    _time(info.started_at, "started_at")
    require(info.exit_code is None or 0 <= info.exit_code <= 255, "exit_code")
    require(info.signal is None or 0 <= info.signal <= 64, "signal")
    require((info.state == "exited") == (info.exit_code is not None), "exit_code of a process that runs, or none")
    _count(info.stdout_bytes, "stdout_bytes")
    _count(info.stderr_bytes, "stderr_bytes")
    _usage(info.usage)
    return info


def file(info: FileInfo) -> FileInfo:
    for value in (info.path, info.target or ""):
        _text(value, MAX_PATH_CHARS, "path")
        require("\0" not in value, "NUL in a path")
    for name in (info.name, info.user, info.group):
        _text(name, MAX_NAME_CHARS, "name")
    # A client may join `name` to a directory of its own machine.
    require("\0" not in info.name and info.name != ".." and ("/" not in info.name or info.name == "/"), "file name")
    for count in (info.size, info.uid, info.gid):
        _count(count, "size or owner")
    require(0 <= info.inode < 1 << 64, "inode")
    require(0 <= info.mode <= 0o7777, "mode")
    require(math.isfinite(info.modified_at) and abs(info.modified_at) <= MAX_TIME, "modified_at")
    return info


def watch_event(event: WatchEvent) -> WatchEvent:
    _text(event.path, MAX_PATH_CHARS, "path")
    return event


def tar_summary(summary: TarSummary) -> TarSummary:
    _count(summary.files, "files")
    _count(summary.bytes, "bytes")
    return summary


def health(answer: GuestHealth) -> GuestHealth:
    for value in (answer.guest_version, answer.sandbox_id, answer.nonce):
        _text(value, MAX_NAME_CHARS, "version, id or nonce")
    _time(answer.uptime_seconds, "uptime_seconds")
    require(len(answer.users) <= MAX_USERS, "users")
    for user in answer.users:
        _text(user, MAX_NAME_CHARS, "user")
    return answer


def stats(answer: GuestStats) -> GuestStats:
    for field in answer.__struct_fields__:
        value = getattr(answer, field)
        require(value is None or (math.isfinite(value) and 0 <= value < 1 << 64), field)
    return answer


def _usage(usage: Usage | None) -> None:
    if usage is None:
        return
    for field in usage.__struct_fields__:
        value = getattr(usage, field)
        require(math.isfinite(value) and 0 <= value <= MAX_INTEGER, f"usage.{field}")


def _text(value: str, most: int, what: str) -> None:
    require(len(value) <= most, f"{what} of {len(value)} characters")


def _time(value: float, what: str) -> None:
    require(math.isfinite(value) and 0 <= value <= MAX_TIME, what)


def _count(value: int, what: str) -> None:
    require(0 <= value <= MAX_INTEGER, what)
