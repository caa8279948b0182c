"""What must be the same for a waiting sandbox to become the one that is asked for, and what is told of the pools.

Pure: the service makes, counts and gives out (service/pool.py)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import msgspec

from cloche.model.sandbox import Mount, SandboxSpec
from cloche.model.template import WarmContext

#: the project of waiting sandboxes: no request is ever in it, so no listing and no reference finds them
POOL_PROJECT = ".pool"


class PoolKey(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a box is made with and that cannot be changed in it. `user`, `workdir` and `env` are what
    the code of warm contexts saw; without contexts they are late and empty here."""

    engine: str
    image: str
    mounts: list[Mount]
    host_paths: list[str]
    hide: list[str]
    hostname: str | None
    disk_mib: int
    contexts: list[WarmContext] = []
    user: str = ""
    workdir: str = ""
    env: dict[str, str] = {}

    def digest(self) -> str:
        """Names the pool in the store and to people: 16 characters."""
        # clients import this file too, and OpenSSL with hashlib
        import hashlib

        # the standard library's writes paths that are no text, too
        written = json.dumps(msgspec.to_builtins(self), sort_keys=True)
        return hashlib.sha256(written.encode("ascii")).hexdigest()[:16]


class PoolPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of one pool. `plain`: creates that name no template are meant to find it."""

    key: PoolKey
    spec: SandboxSpec
    wanted: int
    templates: list[str] = []
    plain: bool = False


class PoolInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One pool now. `misses`: reason → count, since the node started. `ended`: waiting sandboxes that ended by
    themselves. `error`: why the last attempt to make one failed, None after a success."""

    key: str
    engine: str
    image: str
    plain: bool
    templates: list[str]
    wanted: int
    ready: int
    filling: int
    memory_bytes: int
    hits: int
    misses: dict[str, int]
    ended: int = 0
    error: str | None = None


class PoolReport(msgspec.Struct, frozen=True, kw_only=True):
    """`memory_bytes`: what all waiting sandboxes use; none is made that would exceed `memory_limit_bytes`."""

    pools: list[PoolInfo]
    memory_bytes: int
    memory_limit_bytes: int


def key_of(
    engine: str, spec: SandboxSpec, contexts: Iterable[WarmContext] = (), session_env: Mapping[str, str] | None = None
) -> PoolKey:
    """The pool that a sandbox of this spec could come from. Orders that mean nothing make no other key."""
    warm = sorted(contexts, key=lambda context: context.language)
    key = PoolKey(
        engine=engine, image=spec.image, mounts=sorted(spec.mounts, key=lambda mount: mount.target),
        host_paths=sorted(spec.host_paths), hide=sorted(spec.hide), hostname=spec.hostname,
        disk_mib=spec.limits.resolved().disk_mib, contexts=warm,
    )  # fmt: skip
    if not warm:
        return key
    env = {**spec.env, **(session_env or {})}
    return msgspec.structs.replace(key, user=spec.user, workdir=spec.workdir or "", env=env)


def difference(one: PoolKey, other: PoolKey) -> str | None:
    """The first field in which they differ, as the reason of a miss; None when they do not."""
    fields = (field for field in one.__struct_fields__ if getattr(one, field) != getattr(other, field))
    return next((field.removesuffix("_mib") for field in fields), None)


def meant(plans: Iterable[PoolPlan], template: str | None) -> PoolPlan | None:
    """The pool whose counters a create belongs to: that of its template, or the plain one."""
    return next((plan for plan in plans if (template in plan.templates if template else plan.plain)), None)


def merged(plans: Iterable[PoolPlan]) -> dict[str, PoolPlan]:
    """Digest → plan. What has the same key waits in one pool, as many as all of them want together."""
    found: dict[str, PoolPlan] = {}
    for plan in plans:
        name = plan.key.digest()
        known = found.get(name)
        found[name] = plan if known is None else _joined(known, plan)
    return found


def _joined(one: PoolPlan, other: PoolPlan) -> PoolPlan:
    return PoolPlan(
        key=one.key, spec=one.spec, wanted=one.wanted + other.wanted, plain=one.plain or other.plain,
        templates=sorted({*one.templates, *other.templates}),
    )  # fmt: skip
