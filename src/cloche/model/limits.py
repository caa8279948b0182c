"""What a sandbox may use, which limits were asked for by name, and how a limit is written."""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from cloche.model.errors import InvalidError

DEFAULT_MEMORY_MIB = 512
DEFAULT_CPUS = 1.0
DEFAULT_PIDS = 256
DEFAULT_DISK_MIB = 1024
DEFAULT_OPEN_FILES = 4096

_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,18})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_FACTORS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`None` means the default of this page: it holds where it can and is listed as unenforced where it cannot.
    A value that was given must be enforced or the create is refused."""

    memory_mib: int | None = None
    cpus: float | None = None
    pids: int | None = None
    disk_mib: int | None = None
    open_files: int | None = None

    def asked(self) -> frozenset[str]:
        """Names of the limits that were given: "memory", "cpus", "pids", "disk", "open_files"."""
        given = {
            "memory": self.memory_mib,
            "cpus": self.cpus,
            "pids": self.pids,
            "disk": self.disk_mib,
            "open_files": self.open_files,
        }
        return frozenset(name for name, value in given.items() if value is not None)

    def resolved(self) -> ResolvedLimits:
        """Every limit with its default filled in. Raises InvalidError for values out of range."""
        limits = ResolvedLimits(
            memory_mib=DEFAULT_MEMORY_MIB if self.memory_mib is None else self.memory_mib,
            cpus=DEFAULT_CPUS if self.cpus is None else self.cpus,
            pids=DEFAULT_PIDS if self.pids is None else self.pids,
            disk_mib=DEFAULT_DISK_MIB if self.disk_mib is None else self.disk_mib,
            open_files=DEFAULT_OPEN_FILES if self.open_files is None else self.open_files,
        )
        limits.check()
        return limits


class ResolvedLimits(msgspec.Struct, frozen=True, kw_only=True):
    memory_mib: int
    cpus: float
    pids: int
    disk_mib: int
    open_files: int

    def check(self) -> None:
        ranges = {
            "memory_mib": (16, 1 << 24),
            "cpus": (0.01, 4096),
            "pids": (4, 1 << 22),
            "disk_mib": (1, 1 << 30),
            "open_files": (16, 1 << 20),
        }
        for field, (low, high) in ranges.items():
            value = getattr(self, field)
            if not low <= value <= high:
                raise InvalidError(f"limits.{field} must be from {low} to {high}, not {value}", field=f"limits.{field}")


def parse_size_bytes(text: str) -> int:
    """ "512m", "1g", "1.5GiB", "1048576" → bytes. Raises InvalidError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise InvalidError(f"not a size: {text!r} (try 512m or 1g)")
    return int(Decimal(match[1]) * _SIZE_FACTORS[match[2].lower()])


def parse_size_mib(text: str) -> int:
    """The same → whole MiB, rounded up."""
    return max(1, -(-parse_size_bytes(text) // (1 << 20)))


def size_words(size_bytes: int) -> str:
    """What `parse_size_bytes` reads as exactly so many: 10485760 → "10m"."""
    units = sorted(_SIZE_FACTORS.items(), key=lambda unit: -unit[1])
    unit, factor = next((unit for unit in units if size_bytes and size_bytes % unit[1] == 0), ("", 1))
    return f"{size_bytes // factor}{unit}"


def parse_duration_seconds(text: str) -> float:
    """ "30s", "1m30s", "500ms", "2h", "45" (seconds) → seconds. Raises InvalidError."""
    stripped = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        return float(stripped)
    parts = _DURATION.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise InvalidError(f"not a duration: {text!r} (try 30s, 5m or 1h)")
    return sum(float(number) * _DURATION_FACTORS[unit] for number, unit in parts)
