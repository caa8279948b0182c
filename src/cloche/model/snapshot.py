"""Snapshots: immutable captures of sandboxes, and what a create means that begins from one.

Pure: the service writes, reads and removes them (service/snapshots.py)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from cloche.model.egress import Secret
from cloche.model.errors import InvalidError, UnavailableError
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import NAME, NAME_RULE, Isolation, SandboxSpec, check_labels
from cloche.model.template import merge_secrets

SnapshotKind = Literal["memory", "filesystem"]
SnapshotState = Literal["creating", "ready", "removing"]
MAX_SNAPSHOTS = 1000
MAX_DESCRIPTION = 1000
MAX_FORKS = 64
MAX_TTL_SECONDS = 366 * 86400
#: what the capture was made with, and what is therefore the same in every sandbox that begins from it
FIXED = ("image", "engine", "isolation", "mounts", "host_paths", "hide")
#: of the snapshot's own sandbox unless the create says otherwise
_LATE = ("user", "workdir", "ttl_seconds", "idle_timeout_seconds", "egress")


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a capture. `sha256` is of what it holds with the places where it holds it: of each block of 64 KiB
    that is not all zeros, its offset (8 bytes, big-endian) and its content."""

    name: str
    size_bytes: int
    sha256: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as every surface shows it. `size_bytes`: what it takes on the disk by itself. `sandbox_id`, `spec` and
    `limits` are those of the sandbox it was taken of; `manifest` is the engine's own. Times are UTC seconds since the
    epoch."""

    id: str
    project_id: str
    name: str | None
    kind: SnapshotKind
    sandbox_id: str
    engine: str
    isolation: Isolation
    spec: SandboxSpec
    limits: ResolvedLimits
    labels: dict[str, str]
    description: str
    created_at: float
    size_bytes: int
    files: list[SnapshotFile]
    manifest: dict[str, Any]


class SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A store row: only what is "ready" is shown; the others are made or removed just now, or were when a node died."""

    snapshot: Snapshot
    state: SnapshotState


class SnapshotList(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first."""

    snapshots: list[Snapshot]


class SnapshotSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sandboxes/{ref}/snapshots`."""

    name: str | None = None
    kind: SnapshotKind = "memory"
    labels: dict[str, str] = {}
    description: str = ""

    def check(self) -> None:
        """Raise InvalidError naming the field that is wrong, UnavailableError for a kind that is not built yet."""
        check_name(self.name)
        check_labels(self.labels)
        if len(self.description) > MAX_DESCRIPTION:
            raise InvalidError(f"a description has at most {MAX_DESCRIPTION} characters", field="description")
        if self.kind != "memory":
            raise UnavailableError("snapshots of file systems are not built yet", remedy='kind "memory"')


class ForkSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sandboxes/{ref}/fork`. `names`: none, or one for each. `ttl_seconds`, from the moment of
    the fork on: null means that of the parent's spec. `labels` are added to the parent's."""

    count: int = 1
    names: list[str] = []
    labels: dict[str, str] = {}
    ttl_seconds: float | None = None

    def check(self) -> None:
        """Raise InvalidError naming the field that is wrong."""
        if not 1 <= self.count <= MAX_FORKS:
            raise InvalidError(f"count must be from 1 to {MAX_FORKS}", field="count")
        if self.names and len(self.names) != self.count:
            raise InvalidError(f"{len(self.names)} names for {self.count} forks: name all or none", field="names")
        if len(set(self.names)) < len(self.names):
            raise InvalidError("every fork has a name of its own", field="names")
        check_labels(self.labels)
        if self.ttl_seconds is not None and not 0 < self.ttl_seconds <= MAX_TTL_SECONDS:
            raise InvalidError("ttl_seconds must be above 0 and at most a year", field="ttl_seconds")


def check_name(name: str | None) -> None:
    """Raise InvalidError for what cannot name a snapshot."""
    if name is None:
        return
    if not NAME.fullmatch(name):
        raise InvalidError(f"name {name!r}: {NAME_RULE}", field="name")
    if name.startswith("sn_"):
        raise InvalidError("a name may not look like an id (sn_…)", field="name")


def child_spec(parent: SandboxSpec, asked: ForkSpec, number: int) -> SandboxSpec:
    """What the fork with this number (from 0) is: its parent, but for what each sandbox has of its own."""
    return msgspec.structs.replace(
        parent, name=asked.names[number] if asked.names else None, hostname=None,
        labels={**parent.labels, **asked.labels},
        ttl_seconds=parent.ttl_seconds if asked.ttl_seconds is None else asked.ttl_seconds,
    )  # fmt: skip


def apply(snapshot: Snapshot, asked: SandboxSpec, said: frozenset[str]) -> SandboxSpec:
    """What a create means that names a snapshot: `said` are the fields of `asked` that were given. Raises InvalidError
    for one that the capture contradicts: the sandbox in it was made already."""
    source = snapshot.spec
    for field in FIXED:
        mine = snapshot.engine if field == "engine" else snapshot.isolation if field == "isolation" else None
        _refuse_other(snapshot, field, getattr(asked, field), mine or getattr(source, field), field in said)
    for name in asked.limits.__struct_fields__:
        _refuse_other(snapshot, f"limits.{name}", getattr(asked.limits, name), getattr(snapshot.limits, name), True)
    late = {name: getattr(asked if name in said else source, name) for name in _LATE}
    return msgspec.structs.replace(
        source, **late, name=asked.name, template=None, snapshot=snapshot.id, engine=snapshot.engine,
        hostname=asked.hostname, labels=asked.labels, env={**source.env, **asked.env},
        secrets=_secrets(source.secrets, asked.secrets),
    )  # fmt: skip


def _secrets(source: list[Secret], asked: list[Secret]) -> list[Secret]:
    """What the code in the capture has for a secret, it keeps."""
    known = {secret.name: secret.placeholder for secret in source}
    return [msgspec.structs.replace(secret, placeholder=known.get(secret.name))
            for secret in merge_secrets(source, asked)]  # fmt: skip


def _refuse_other(snapshot: Snapshot, field: str, asked: object, mine: object, said: bool) -> None:
    if not said or asked in (mine, None) or (field == "engine" and asked == "auto"):
        return
    raise InvalidError(
        f"snapshot {snapshot.name or snapshot.id} was taken with {field} {mine!r}, which cannot become {asked!r}",
        field=field, remedy="leave it out: what begins from a snapshot has it from there",
    )  # fmt: skip
