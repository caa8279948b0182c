"""Answers of the guest's wire that only the node sees (guest/README.md, "Health and the box itself")."""

from __future__ import annotations

import msgspec


class GuestHealth(msgspec.Struct, frozen=True, kw_only=True):
    """`shared_uid`: code runs under the guest's own user id. `landlock_abi` 0: the kernel has none. `transparent_tcp`:
    connections of programs that know no proxy reach the guest, too. `tells_refused`: it hears of UDP and pings that
    are refused there."""

    api_version: int
    guest_version: str
    sandbox_id: str
    nonce: str
    pid: int = 1
    uptime_seconds: float = 0.0
    shared_uid: bool = False
    users: list[str] = []
    landlock_abi: int = 0
    transparent_tcp: bool = False
    tells_refused: bool = False


class GuestStats(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, `time` in UTC seconds by the sandbox's clock; None where the guest cannot tell."""

    processes: int
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    disk_limit_bytes: int | None = None
    disk_inodes_free: int | None = None
    output_ring_bytes: int | None = None
    time: float = 0.0


class SessionSetup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Environment and defaults of every process to come. None leaves the guest's own default."""

    sandbox_id: str
    env: dict[str, str] = {}
    session_env: dict[str, str] = {}
    user: str | None = None
    workdir: str | None = None
    open_files: int | None = None
    pids: int | None = None
