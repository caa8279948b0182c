"""What a caller may say when a sandbox is made or a command is run, and the request bodies it becomes. No I/O but
the look at `os.getcwd` that a relative host path needs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import msgspec

from cloche.model.errors import InvalidError, UnavailableError
from cloche.model.limits import Limits, parse_size_mib
from cloche.model.process import ProcessSpec, PtySize
from cloche.model.sandbox import Isolation, Mount, MountMode, SandboxSpec
from cloche.sdk import egress_options
from cloche.sdk.egress_options import Net, SecretGiven

_MOUNT_MODES: tuple[MountMode, ...] = ("ro", "rw")


class SandboxOptions(TypedDict, total=False):
    """Sizes are "512m", "1g" or whole MiB; times are seconds. What is left out has the defaults of the node."""

    name: str | None
    template: str | None
    snapshot: str | None
    engine: str
    isolation: Isolation | None
    memory: str | int | None
    cpus: float | None
    pids: int | None
    disk: str | int | None
    open_files: int | None
    env: Mapping[str, str]
    labels: Mapping[str, str]
    mounts: Iterable[Mount | str]
    host_paths: Iterable[str]
    hide: Iterable[str]
    workdir: str | None
    user: str
    hostname: str | None
    ttl_seconds: float | None
    idle_timeout_seconds: float | None
    net: Net
    secrets: Iterable[SecretGiven]


class ProcessOptions(TypedDict, total=False):
    """`env` adds to the sandbox's own. `timeout_seconds`: SIGTERM then, SIGKILL two seconds later, exit code 124."""

    env: Mapping[str, str]
    cwd: str | None
    user: str | None
    timeout_seconds: float | None
    output_limit_bytes: int | None
    tag: str | None


_LIMITS = {"memory": "memory_mib", "cpus": "cpus", "pids": "pids", "disk": "disk_mib", "open_files": "open_files"}
_NONE_IS_SAID = frozenset({"ttl_seconds", "idle_timeout_seconds", "egress"})
_MADE = frozenset({"mounts", "env", "labels", "host_paths", "hide", "net", "secrets"})
_COPIED = frozenset(SandboxOptions.__annotations__) - frozenset(_LIMITS) - _MADE
_WORDS = 'exec("ls", "-l"); a list: exec(*words); a line for the shell: exec("sh", "-c", line)'


def sandbox_spec(image: str, options: SandboxOptions) -> SandboxSpec:
    """Raises InvalidError naming the field that is wrong, TypeError for an option that does not exist."""
    refuse_unknown(options, SandboxOptions.__annotations__, "Sandbox.create")
    given: Mapping[str, Any] = options
    spec = SandboxSpec(
        image=image,
        limits=Limits(**{field: _limit(name, given.get(name)) for name, field in _LIMITS.items()}),
        env=dict(given.get("env") or {}),
        labels=dict(given.get("labels") or {}),
        mounts=[parse_mount(mount) if isinstance(mount, str) else mount for mount in given.get("mounts") or ()],
        host_paths=[absolute(path) for path in given.get("host_paths") or ()],
        hide=list(given.get("hide") or ()),
        egress=egress_options.policy(given.get("net")),
        secrets=egress_options.secrets(given.get("secrets") or ()),
        **{name: given[name] for name in _COPIED if name in given},
    )
    _check(spec)
    return spec


def process_spec(
    argv: Sequence[str], options: ProcessOptions, *, stdin: bool = False, pty: PtySize | None = None
) -> ProcessSpec:
    """Raises InvalidError naming the field that is wrong, TypeError for an option that does not exist."""
    refuse_unknown(options, ProcessOptions.__annotations__, "exec")
    if not all(isinstance(word, str) for word in argv):
        raise InvalidError("a command is given word by word, each a string", field="argv", remedy=_WORDS)
    given: dict[str, Any] = {**options, "env": dict(options.get("env") or {})}
    spec = ProcessSpec(argv=list(argv), stdin=stdin, pty=pty, **given)
    _check(spec)
    return spec


def session_body(session_env: Mapping[str, str] | None, given: SandboxOptions) -> dict[str, Any]:
    """What holds for this start only: the environment, and values of secrets."""
    values = egress_options.values(given.get("secrets") or ())
    return {"env": dict(session_env or {}), **({"secrets": values} if values else {})}


def create_body(spec: SandboxSpec, given: SandboxOptions) -> dict[str, Any]:
    """`body`; of a spec with a template or a snapshot only what was given, as that counts against it."""
    if spec.template is None and spec.snapshot is None:
        return body(spec)
    full: dict[str, Any] = msgspec.to_builtins(spec)
    said = {"limits", *given, *(["image"] if spec.image != "host" else [])}
    said |= {"egress"} if given.get("net") is not None else set()
    # None is an answer only to "how long" and to "how far"
    return {
        name: value
        for name, value in full.items()
        if name in said and value not in ({}, []) and (value is not None or name in _NONE_IS_SAID)
    }


def body(spec: msgspec.Struct) -> dict[str, Any]:
    """What is sent of a spec: what was said, without the empty rest, so that an older node can read it."""
    full: dict[str, Any] = msgspec.to_builtins(spec)
    return {name: value for name, value in full.items() if value not in (None, {}, [])}


def parse_mount(text: str) -> Mount:
    """ "SRC:DST[:ro|:rw]" → Mount; SRC may be relative to the working directory. Raises InvalidError,
    UnavailableError for a kind of mount that this version does not know."""
    source, target, mode = _three(text if text.count(":") != 1 else f"{text}:rw")
    if mode == "cow":
        raise UnavailableError(
            f"copy-on-write mounts are not built yet: {text}", remedy="mount it with :ro or copy it in"
        )
    if mode not in _MOUNT_MODES:
        raise InvalidError(f"a mount is ro or rw, not {mode!r}: {text}", field="mounts")
    return Mount(source=absolute(source), target=target, mode="ro" if mode == "ro" else "rw")


def absolute(path: str) -> str:
    """A host path as the node needs it. Raises InvalidError for an empty one."""
    if not path:
        raise InvalidError("an empty host path", field="host_paths")
    return os.path.abspath(os.path.expanduser(path))


def labels_query(labels: Mapping[str, str | None] | None) -> list[str]:
    """`{"a": "b", "c": None}` → ["a=b", "c"]: has label a with value b, and has label c."""
    return [key if value is None else f"{key}={value}" for key, value in (labels or {}).items()]


def refuse_unknown(options: Mapping[str, Any], known: Mapping[str, Any], function: str) -> None:
    """Raises TypeError, with all that `function` knows, for an option that does not exist."""
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"{function}() has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")


def wrong_field(error: msgspec.ValidationError) -> str | None:
    """The path of the field that is wrong: "limits.cpus"; None: the value as a whole."""
    _, found, path = str(error).rpartition("$.")
    return path.rstrip("`") or None if found else None


def _three(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) != 3:
        raise InvalidError(f"not a mount: {text!r} (try SRC:DST or SRC:DST:ro)", field="mounts")
    return parts[0], parts[1], parts[2]


def _limit(name: str, value: Any) -> Any:
    if isinstance(value, str) and name in ("memory", "disk"):
        return parse_size_mib(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidError(f"{name} must be a finite number", field=f"limits.{_LIMITS[name]}")
    return value


def _check(spec: SandboxSpec | ProcessSpec) -> None:
    try:
        msgspec.convert(msgspec.to_builtins(spec), type(spec))
    except msgspec.ValidationError as error:
        raise InvalidError(str(error), field=wrong_field(error)) from error
    spec.check()
