"""Doctor's lines for the namespace engine. The one that counts makes a real box and takes it away again."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from cloche.engines.base import Box, Check
from cloche.engines.launched import cgroups, ids, supervisor
from cloche.engines.launched.engine import PROBE_PREFIX
from cloche.engines.launched.facts import Facts
from cloche.engines.namespace import plan
from cloche.model.errors import ClocheError, NeedsSubuidError
from cloche.model.sandbox import SandboxSpec

#: the modules that the kernel loads by itself where it may (guest/internal/redirect)
REDIRECT_REMEDY = "modprobe --all nft_chain_nat nft_redir"
REFUSALS_REMEDY = "modprobe --all nft_log nfnetlink_log"


class Probed(NamedTuple):
    """What a box told that was made and removed. `not_redirected`: why programs that know no proxy reach nobody, empty
    when they reach the guest. `tells_refused`: the guest hears of UDP and pings that are refused."""

    landlock_abi: int
    not_redirected: str
    tells_refused: bool


async def run(facts: Facts, home: Path) -> tuple[list[Check], Probed | None]:
    """The lines, and what the box told if one could be made. Never raises."""
    checks, probed = [_binaries(facts)], None
    if checks[0].status == "ok":
        box, probed = await _real_box(facts, home)
        checks.append(box)
    network = [_network(probed)] if probed else []
    return [*checks, *network, _ids(facts), _groups(facts), _landlock()], probed


def _binaries(facts: Facts) -> Check:
    missing = [path.name for path in (facts.launcher, facts.guest) if not path.exists()]
    if not missing:
        return Check(id="namespace.binaries", status="ok", summary="launcher and guest are installed", required=True)
    summary = f"{' and '.join(missing)} missing from the installation"
    remedy = "pip install --force-reinstall cloche (in a checkout: python3 dev.py build)"
    return Check(id="namespace.binaries", status="missing", summary=summary, remedy=remedy, required=True)


async def _real_box(facts: Facts, home: Path) -> tuple[Check, Probed | None]:
    try:
        probed = await try_box(facts, home)
    except ClocheError as error:
        return _no_box(error.message, error.remedy), None
    except OSError as error:
        return _no_box(str(error), "make CLOCHE_HOME writable, or set it to a directory that is"), None
    summary = "a box with all namespaces, seccomp and its own root was made and removed"
    landlock = f" (Landlock {probed.landlock_abi})" if probed.landlock_abi else ""
    return Check(id="namespace.box", status="ok", summary=summary + landlock, required=True), probed


def _no_box(summary: str, remedy: str | None) -> Check:
    return Check(id="namespace.box", status="missing", summary=summary, remedy=remedy, required=True)


async def try_box(facts: Facts, home: Path) -> Probed:
    """Make a box and remove it. Raises EngineError, OSError."""
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
        return told(ready)
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, True)


def told(ready: dict[str, Any]) -> Probed:
    """Of a launcher's ready line."""
    alone = str(ready.get("not_redirected", "the launcher is another one"))
    return Probed(int(ready.get("landlock_abi") or 0), alone, ready.get("tells_refused") is True)


def _network(probed: Probed) -> Check:
    if not probed.not_redirected:
        summary = "programs that know no proxy reach the door"
        if probed.tells_refused:
            return Check(id="namespace.network", status="ok", summary=summary)
        summary += "; refused UDP and pings are not logged: the kernel has no nft_log"
        return Check(id="namespace.network", status="degraded", summary=summary, remedy=REFUSALS_REMEDY)
    summary = f"only programs that know a proxy reach the door: {probed.not_redirected}"
    return Check(id="namespace.network", status="degraded", summary=summary, remedy=REDIRECT_REMEDY)


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
