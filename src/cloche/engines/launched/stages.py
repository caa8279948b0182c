"""Turns the step at which the launcher failed into an error that says what to do. Pure."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from cloche.model.errors import ClocheError, EngineError, InvalidError, NoSpaceError, UnavailableError

_USERNS_REMEDY = (
    "allow unprivileged user namespaces: "
    "sudo sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=65536 "
    "(Ubuntu 24.04 and later: kernel.apparmor_restrict_unprivileged_userns=0)"
)
_PROC_REMEDY = (
    "inside a container, start that container with an unmasked /proc (docker run --security-opt systempaths=unconfined)"
)
_REMEDIES = {
    "make namespaces": _USERNS_REMEDY,
    "map ids": _USERNS_REMEDY,
    "take ids": _USERNS_REMEDY,
    "private mounts": _USERNS_REMEDY,
    "staging tmpfs": _USERNS_REMEDY,
    "loopback": _USERNS_REMEDY,
    "mount /proc": _PROC_REMEDY,
    "overlay": "Linux 5.11 or newer is needed for overlayfs in a user namespace",
    "id range lock": "/run must be writable for root",
}


def failure(report: dict[str, Any], plan: dict[str, Any]) -> ClocheError:
    """The error for a launcher's failure report `{"stage", "errno", "message"}`."""
    stage, number = str(report.get("stage", "launcher")), int(report.get("errno") or 0)
    text = f"the sandbox could not be made: {stage}: {report.get('message', 'no reason given')}"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(
            text, remedy="free space under CLOCHE_HOME, or give the sandbox a larger --disk", stage=stage
        )
    if asked := _asked_path(stage, plan):
        return InvalidError(f"{asked}: {report.get('message')}", field="mounts", path=asked)
    if stage in _REMEDIES and number in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EINVAL, errno.ENOSYS, 0):
        return UnavailableError(text, remedy=_REMEDIES[stage], stage=stage)
    return EngineError(text, stage=stage, errno=number)


def _asked_path(stage: str, plan: dict[str, Any]) -> str | None:
    """The path of the caller's own that a stage like "open /data" or "mount point /work" is about."""
    for word in ("open ", "mount point ", "mount "):
        path = stage.removeprefix(word)
        if path != stage and any(path in (bind["source"], bind["target"]) for bind in plan["binds"]):
            return path
    return None


def cannot_run(program: Path, error: OSError) -> EngineError:
    return EngineError(
        f"cannot run {program.name}: {error.strerror}",
        remedy="install Cloche again: pip install --force-reinstall cloche",
        stage="launcher",
    )
