"""What a sandbox is asked to be (SandboxSpec) and what is known of it (Sandbox)."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from cloche.model.egress import EgressPolicy, Secret
from cloche.model.egress_checks import check_policy, check_secrets
from cloche.model.errors import InvalidError
from cloche.model.lifecycle import State
from cloche.model.limits import Limits, ResolvedLimits

Isolation = Literal["vm", "gvisor", "namespace", "container", "none"]
#: strongest first; "none" is the fake engine's and is never chosen by `auto`
ISOLATION_ORDER: tuple[Isolation, ...] = ("vm", "gvisor", "namespace", "container", "none")
MountMode = Literal["ro", "rw"]

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62})")
NAME_RULE = "at most 63 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or a digit"
#: of something that has a name or an id
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LABEL_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,62})")
LABEL_RULE = "at most 63 of letters, digits, `.`, `_`, `/` and `-`, beginning with a letter or a digit"
ENV_NAME = re.compile(r"[^=\0]+")
#: below the root of a sandbox; its guest is there
GUEST_DIRECTORY = ".cloche"
MAX_LABELS = 64
MAX_LABEL_VALUE = 256


class Mount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host path that the sandbox sees. Both paths are absolute; `source` must exist."""

    source: str
    target: str
    mode: MountMode = "rw"


class SandboxSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sandboxes`, and what is kept of it."""

    name: str | None = None
    template: str | None = None
    snapshot: str | None = None
    """Begin from this snapshot (id or name): its processes go on in the new sandbox."""
    image: str = "host"
    engine: str = "auto"
    isolation: Isolation | None = None
    limits: Limits = msgspec.field(default_factory=Limits)
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    mounts: list[Mount] = []
    host_paths: list[str] = []
    hide: list[str] = []
    workdir: str | None = None
    user: str = "user"
    hostname: str | None = None
    egress: EgressPolicy | None = None
    """What it may reach; None: nothing, and no name is answered either."""
    secrets: list[Secret] = []
    ttl_seconds: float | None = None
    idle_timeout_seconds: float | None = None

    def check(self) -> None:
        """Raise InvalidError naming the first field that is wrong."""
        self._check_references()
        check_labels(self.labels)
        check_env(self.env)
        for mount in self.mounts:
            _check_absolute(mount.source, "mounts.source")
            _check_absolute(mount.target, "mounts.target")
            _check_source(mount.source)
        for path in self.host_paths:
            _check_absolute(path, "host_paths")
        for path in self.hide:
            _check_absolute(path, "hide")
            _check_hidden(path)
        if self.workdir is not None:
            _check_absolute(self.workdir, "workdir")
        for field in ("ttl_seconds", "idle_timeout_seconds"):
            value = getattr(self, field)
            if value is not None and not 0 < value <= 366 * 86400:
                raise InvalidError(f"{field} must be above 0 and at most a year", field=field)
        if self.egress is not None:
            check_policy(self.egress)
        check_secrets(self.secrets)
        self.limits.resolved()
        if self.egress is not None or self.secrets:
            self._check_network()

    def _check_network(self) -> None:
        # clients import this file too, and mostly have no use for that one
        from cloche.model.egress_checks import check_policy, check_secrets

        if self.egress is not None:
            check_policy(self.egress)
        check_secrets(self.secrets)

    def _check_references(self) -> None:
        if self.name is not None and not NAME.fullmatch(self.name):
            raise InvalidError(f"name {self.name!r}: {NAME_RULE}", field="name")
        if self.name is not None and self.name.startswith("sb_"):
            raise InvalidError("a name may not look like an id (sb_…)", field="name")
        if self.template is not None and not NAME.fullmatch(self.template):
            raise InvalidError(f"template {self.template!r}: {NAME_RULE}", field="template")
        if self.snapshot is not None and not REFERENCE.fullmatch(self.snapshot):
            raise InvalidError(f"snapshot {self.snapshot!r}: an id (sn_…) or a name", field="snapshot")
        if self.snapshot is not None and self.template is not None:
            raise InvalidError("a sandbox begins from a template or from a snapshot, not from both", field="snapshot")


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox as every surface shows it. Times are UTC seconds since the epoch."""

    id: str
    project_id: str
    name: str | None
    state: State
    reason: str | None
    engine: str
    isolation: Isolation
    spec: SandboxSpec
    limits: ResolvedLimits
    limits_unenforced: list[str]
    labels: dict[str, str]
    created_at: float
    started_at: float | None
    expires_at: float | None
    stopped_at: float | None
    exit_code: int | None = None
    parent_id: str | None = None
    """The sandbox that it was forked from, which may be gone."""


class SandboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A store row: what is public, and what only the engine can read. `pool_key`: it waits in that pool for somebody
    to ask for it, and is nobody's yet. `suspended`: the engine's manifest of the capture that it can be resumed
    from."""

    sandbox: Sandbox
    engine_state: dict[str, Any]
    pool_key: str | None = None
    suspended: dict[str, Any] | None = None


def check_env(env: dict[str, str]) -> None:
    for key, value in env.items():
        if not ENV_NAME.fullmatch(key) or "\0" in value:
            raise InvalidError(f"environment variable {key!r} has an empty name, '=' or NUL in it", field="env")


def check_labels(labels: dict[str, str]) -> None:
    """Raise InvalidError for too many, or for a key or value that is not allowed."""
    if len(labels) > MAX_LABELS:
        raise InvalidError(f"at most {MAX_LABELS} labels", field="labels")
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            raise InvalidError(f"label {key!r}: {LABEL_RULE}", field="labels")
        if len(value) > MAX_LABEL_VALUE:
            raise InvalidError(f"label {key!r}: its value has more than {MAX_LABEL_VALUE} characters", field="labels")


def _check_absolute(path: str, field: str) -> None:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise InvalidError(f"{field}: {path!r} must be an absolute path without '..'", field=field)


def _check_source(path: str) -> None:
    top = _top(path)
    if top in (None, "proc", "sys"):
        raise InvalidError(
            f"{path} cannot be mounted: it shows the host's own processes and devices, other sandboxes among them",
            field="mounts.source",
            remedy="mount the directories that are needed, one by one",
        )


def _check_hidden(path: str) -> None:
    if _top(path) in (None, GUEST_DIRECTORY):
        raise InvalidError(f"{path} cannot be hidden: the sandbox stands on it", field="hide")


def _top(path: str) -> str | None:
    """The first name of an absolute path; None for the root."""
    return next((part for part in path.split("/") if part not in ("", ".")), None)
