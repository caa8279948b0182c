"""Whether KVM works here: found out by booting with a deadline, never by the device's presence. There are machines
whose /dev/kvm opens, answers every question and then runs no kernel."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

DEVICE = "/dev/kvm"
FORBIDDEN = f"{DEVICE} is not open to this user"
PERMIT = "sudo usermod -aG kvm $USER, then log in again and: cloche setup vm"
#: a machine that works boots in a tenth of this
BOOT_SECONDS = 8.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`stands_on`: what it depended on; another kernel or another QEMU is tried again."""

    works: bool
    stands_on: list[str]
    reason: str


def usable() -> str | None:
    """Why it cannot even be tried; None when it can."""
    if not os.path.exists(DEVICE):
        return f"there is no {DEVICE}"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return FORBIDDEN
    return None


def conditions(bundle_key: str, kernel_id: str) -> list[str]:
    found = os.stat(DEVICE)
    return [bundle_key, kernel_id, os.uname().release, os.uname().machine, str(found.st_rdev)]


def works(home: Path) -> bool:
    """By the verdict that was written down; without one it does not."""
    verdict = known(home)
    return verdict is not None and verdict.works and usable() is None


def known(home: Path) -> Verdict | None:
    try:
        return msgspec.json.decode((home / "vm" / "kvm.json").read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError):
        return None


def keep(home: Path, verdict: Verdict) -> None:
    target = home / "vm" / "kvm.json"
    temporary = target.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(verdict))
    os.rename(temporary, target)
