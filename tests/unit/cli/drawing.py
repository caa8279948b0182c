"""Sandboxes and their use, made up for the tests of what is drawn."""

from __future__ import annotations

from typing import Any

import msgspec

from cloche.model.process import ProcessInfo
from cloche.sdk.values import NodeUse

#: every way in which text may try to act on a terminal or to break a column
HOSTILE = (
    "a\x1b]0;title\x07b\x1b[31mc\x9b2Jd\u202ee\u2066f\r\ng\x00h\u0300\u0300\u0300\u0300\u0300\u200bi\ud800漢字👩‍👩‍👧"
)


def sandbox(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"sb_01k0{number:022d}", "project_id": "default", "name": f"box{number}", "state": "running",
        "reason": None, "engine": "namespace", "isolation": "namespace", "spec": {}, "limits_unenforced": [],
        "limits": {"memory_mib": 512, "cpus": 1.0, "pids": 256, "disk_mib": 1024, "open_files": 4096},
        "labels": {}, "created_at": 1000.0 + number, "started_at": None, "expires_at": None, "stopped_at": None,
        **changes,
    }  # fmt: skip


def stats(time: float = 10.0, **changes: Any) -> dict[str, Any]:
    return {
        "time": time, "cpu_seconds": 1.0, "memory_bytes": 64 << 20, "memory_limit_bytes": 512 << 20, "disk_bytes": 4096,
        "pids": 9, "pids_limit": 256, "processes": 2, **changes,
    }  # fmt: skip


def use(*pairs: tuple[dict[str, Any], dict[str, Any]]) -> NodeUse:
    boxes = [{"sandbox": box, "stats": used} for box, used in pairs]
    return msgspec.convert({"time": 10.0, "sandboxes": boxes}, NodeUse)


def process(number: int, *argv: str, **changes: Any) -> ProcessInfo:
    found = {"id": f"p_{number:026d}", "pid": number, "argv": list(argv), "state": "running", "started_at": 1000.0}
    return msgspec.convert({**found, **changes}, ProcessInfo)
