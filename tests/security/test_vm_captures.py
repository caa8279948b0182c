"""Captures that somebody else has written: what is not of the sandbox's size is not given to a machine."""

from __future__ import annotations

from typing import Any

import pytest

from cloche.engines.vm import captures, plan
from cloche.model.errors import EngineError

SIZE = plan.Size(ram_mib=256, vcpus=1, disk_mib=32)
REQUIRES = {"qemu": "", "kernel": "", "root": "", "accelerator": "", "cpu": ""}


def manifest(taken: dict[str, int] | None = None, **sizes: int) -> captures.Manifest:
    files = {"memory": 256 << 20, "pages": 257 << 20, "devices": 9000, "disk": 32 << 20, **sizes}
    told: dict[str, Any] = {
        "size_bytes": 1, "files": {name: {"bytes": size} for name, size in files.items() if size >= 0},
        "requires": REQUIRES, "taken": {"size": {"ram_mib": 256, "vcpus": 1, "disk_mib": 32} | (taken or {})},
    }  # fmt: skip
    return captures.read_manifest(told)


def test_one_of_its_size_is_taken() -> None:
    captures.require_size(manifest(), SIZE)


@pytest.mark.parametrize(
    "hostile",
    [
        {"disk": 1 << 40}, {"disk": 0}, {"disk": -1}, {"devices": 10 << 30}, {"devices": -1},
        {"taken": {"ram_mib": 1 << 20}}, {"taken": {"disk_mib": 1 << 20}},
    ],
    ids=str,
)  # fmt: skip
def test_another_is_refused(hostile: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        captures.require_size(manifest(**hostile), SIZE)
