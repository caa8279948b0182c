"""The bodies that Firecracker takes, field by field as src/firecracker/swagger/firecracker.yaml (1.17.0-dev) has them.
It refuses unknown fields (`deny_unknown_fields`), so these do. Fields of a release after 1.8 are left out where Cloche
has to work with 1.8."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Unsigned = Annotated[int, msgspec.Meta(ge=0)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class TokenBucket(Strict):
    size: Unsigned
    refill_time: Unsigned
    one_time_burst: Unsigned | None = None


class RateLimiter(Strict):
    bandwidth: TokenBucket | None = None
    ops: TokenBucket | None = None


class MachineConfig(Strict):
    vcpu_count: Annotated[int, msgspec.Meta(ge=1, le=32)]
    mem_size_mib: Annotated[int, msgspec.Meta(ge=1)]
    smt: bool = False
    track_dirty_pages: bool = False
    huge_pages: Literal["None", "2M"] = "None"
    cpu_template: Literal["C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None"] | None = None


class BootSource(Strict):
    kernel_image_path: str
    initrd_path: str | None = None
    boot_args: str | None = None


class Drive(Strict):
    drive_id: str
    is_root_device: bool
    path_on_host: str
    is_read_only: bool = False
    partuuid: str | None = None
    cache_type: Literal["Unsafe", "Writeback"] = "Unsafe"
    rate_limiter: RateLimiter | None = None
    io_engine: Literal["Sync", "Async"] = "Sync"


class Vsock(Strict):
    guest_cid: Annotated[int, msgspec.Meta(ge=3, lt=1 << 32)]
    uds_path: str
    vsock_id: str | None = None


class Entropy(Strict):
    rate_limiter: RateLimiter | None = None


class Logger(Strict):
    log_path: str | None = None
    level: Literal["Error", "Warning", "Info", "Debug", "Trace", "Off"] | None = None
    show_level: bool | None = None
    show_log_origin: bool | None = None
    module: str | None = None


class Action(Strict):
    action_type: Literal["FlushMetrics", "InstanceStart", "SendCtrlAltDel"]


class Vm(Strict):
    state: Literal["Paused", "Resumed"]


class SnapshotCreate(Strict):
    snapshot_path: str
    mem_file_path: str
    snapshot_type: Literal["Full", "Diff"] = "Full"


class MemBackend(Strict):
    backend_type: Literal["File", "Uffd"]
    backend_path: str


class SnapshotLoad(Strict):
    snapshot_path: str
    mem_backend: MemBackend | None = None
    mem_file_path: str | None = None
    enable_diff_snapshots: bool = False
    resume_vm: bool = False
