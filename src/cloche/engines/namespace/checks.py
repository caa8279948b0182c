"""Doctor's lines for the namespace engine. The one that counts makes a real box and takes it away again."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

from cloche.engines.base import Box, Check
from cloche.engines.launched import cgroups, ids, supervisor
from cloche.engines.launched.engine import PROBE_PREFIX
from cloche.engines.launched.facts import Facts
from cloche.engines.namespace import plan
from cloche.model.errors import ClocheError, NeedsSubuidError
from cloche.model.sandbox import SandboxSpec


async def run(facts: Facts, home: Path) -> list[Check]:
    """Never raises."""
    checks = [_binaries(facts)]
    if checks[0].status == "ok":
        checks.append(await _real_box(facts, home))
    return [*checks, _ids(facts), _groups(facts), _landlock()]


def _binaries(facts: Facts) -> Check:
    missing = [path.name for path in (facts.launcher, facts.guest) if not path.exists()]
    if not missing:
        return Check(id="namespace.binaries", status="ok", summary="launcher and guest are installed", required=True)
    summary = f"{' and '.join(missing)} missing from the installation"
    remedy = "pip install --force-reinstall cloche (in a checkout: python3 dev.py build)"
    return Check(id="namespace.binaries", status="missing", summary=summary, remedy=remedy, required=True)


async def _real_box(facts: Facts, home: Path) -> Check:
    try:
        abi = await _try_box(facts, home)
    except ClocheError as error:
        return Check(id="namespace.box", status="missing", summary=error.message, remedy=error.remedy, required=True)
    except OSError as error:
        remedy = "make CLOCHE_HOME writable, or set it to a directory that is"
        return Check(id="namespace.box", status="missing", summary=str(error), remedy=remedy, required=True)
    summary = "a box with all namespaces, seccomp and its own root was made and removed"
    return Check(
        id="namespace.box", status="ok", summary=summary + (f" (Landlock {abi})" if abi else ""), required=True
    )


async def _try_box(facts: Facts, home: Path) -> int:
    await asyncio.to_thread(home.mkdir, 0o700, True, True)
    directory = await asyncio.to_thread(tempfile.mkdtemp, prefix=PROBE_PREFIX, dir=home)
    try:
        spec = SandboxSpec()
        # without cgroups: a probe must leave nothing when it is killed, and directories are the easiest to sweep
        state = {"version": plan.STATE_VERSION, "ids": ids.ids(facts)}
        box = Box(sandbox_id="sb_probe", spec=spec, run_dir=directory, state_dir=directory, engine_state=state)
        ready = await supervisor.launch(facts.launcher, plan.launcher_plan(facts, box))
        with contextlib.suppress(ClocheError):
            await supervisor.ask(Path(directory), {"op": "end", "reason": "killed"})
        await supervisor.wait_gone(int(ready["supervisor_pid"]))
        return int(ready.get("landlock_abi") or 0)
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, True)


def _ids(facts: Facts) -> Check:
    texts = {
        "range": ("ok", "root: each sandbox has 65536 host ids of its own, which belong to nobody", None),
        "helper": ("ok", "newuidmap: sandboxes have many users, user code has an id that nobody has", None),
        "one": (
            "degraded",
            "one id: user code has your own id on the host, and no other user exists inside",
            NeedsSubuidError.usual_remedy,
        ),
    }
    status, summary, remedy = texts[facts.id_mode]
    return Check(id="namespace.ids", status=status, summary=summary, remedy=remedy)  # type: ignore[arg-type]


def _groups(facts: Facts) -> Check:
    if facts.cgroups is None:
        return Check(
            id="namespace.cgroups", status="degraded",
            summary="no cgroup may be made: memory and cpu limits cannot be enforced, and pause is not possible",
            remedy=cgroups.DELEGATE_REMEDY,
        )  # fmt: skip
    held = ", ".join(sorted(plan.enforced_limits(facts)))
    return Check(
        id="namespace.cgroups", status="ok", summary=f"cgroup version {facts.cgroups.version}: {held} are enforced"
    )


def _landlock() -> Check:
    """Only what the kernel says; the box check shows the version that was applied."""
    text = ""
    with contextlib.suppress(OSError):
        text = Path("/sys/kernel/security/lsm").read_text()
    if text and "landlock" not in text:
        remedy = "boot with lsm=landlock,… to add a second wall behind the mounts"
        return Check(
            id="namespace.landlock", status="degraded", summary="the kernel runs without Landlock", remedy=remedy
        )
    return Check(id="namespace.landlock", status="info", summary="used where the kernel has it")
