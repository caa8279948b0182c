"""What all engines share whose boxes stand below a launcher that stays as their supervisor: everything but how the box
is described and how its guest is reached."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from cloche.engines.base import Box, BoxStatus, BoxUsage
from cloche.engines.launched import cgroups, facts, supervisor
from cloche.engines.launched.usage import Looks
from cloche.model.errors import EngineError, SandboxDeadError, UnavailableError

#: by a supervisor that has ended its box, in the run directory
_LEFT = ("supervisor.json", "launcher.log")
PROBE_PREFIX = "probe-"


class LaunchedEngine:
    """One per data directory (`home`). See engines.base.Engine for what each method promises."""

    name: str

    def __init__(self, home: Path) -> None:
        self.home = home
        self.tag = cgroups.home_tag(str(home))
        self._looks = Looks()

    @cached_property
    def facts(self) -> facts.Facts:
        return facts.gather()

    async def status(self, box: Box) -> BoxStatus:
        run_dir = Path(box.run_dir)
        written = supervisor.read_json(run_dir / "supervisor.json")
        ended = supervisor.read_json(run_dir / "exit.json")
        if ended is not None and _same_run(ended, written):
            return _ended(ended)
        if written is None:
            return BoxStatus(status="gone")
        try:
            reply = await supervisor.ask(run_dir, {"op": "status"})
        except EngineError:
            reply = None
        if reply is None or not _same_run(reply, written):
            return await self._without_supervisor(run_dir, written)
        if reply.get("exit"):
            # it is still saving the disk
            return _ended(reply["exit"])
        return BoxStatus(status="paused" if _is_frozen(box) else "running")

    async def _without_supervisor(self, run_dir: Path, written: dict[str, Any]) -> BoxStatus:
        # it may have written its last word between the two looks
        ended = supervisor.read_json(run_dir / "exit.json")
        if ended is not None and _same_run(ended, written):
            return _ended(ended)
        return BoxStatus(status="exited", reason="supervisor_lost")

    async def wait(self, box: Box) -> BoxStatus:
        written = supervisor.read_json(Path(box.run_dir) / "supervisor.json")
        if written is not None and supervisor.is_supervisor(int(written["supervisor_pid"]), Path(box.run_dir)):
            await supervisor.wait_gone(int(written["supervisor_pid"]))
        return await self.status(box)

    async def set_deadline(self, box: Box, deadline: float | None) -> None:
        reply = await supervisor.ask(Path(box.run_dir), {"op": "deadline", "deadline": deadline or 0})
        if reply is None:
            raise SandboxDeadError(f"sandbox {box.sandbox_id} is not running", reason="guest_died")

    async def pause(self, box: Box) -> None:
        await self._freeze(box, "freeze")

    async def resume(self, box: Box) -> None:
        await self._freeze(box, "thaw")

    async def _freeze(self, box: Box, operation: str) -> None:
        if not box.engine_state.get("freezer"):
            raise UnavailableError(
                "pausing needs a cgroup freezer, and this user may not make cgroups",
                remedy=cgroups.DELEGATE_REMEDY,
            )
        if await supervisor.ask(Path(box.run_dir), {"op": operation}) is None:
            raise SandboxDeadError(f"sandbox {box.sandbox_id} is not running", reason="guest_died")

    async def usage(self, box: Box) -> BoxUsage:
        return await self._looks.at(box)

    async def stop(self, box: Box, *, keep_disk: bool) -> BoxStatus:
        request = {"op": "end", "reason": "stopped", "keep_disk": keep_disk}
        reply = await supervisor.ask(Path(box.run_dir), request, timeout_seconds=None)
        ended = (reply or {}).get("exit") or await asyncio.to_thread(_last_word, Path(box.run_dir))
        if not ended:
            return await self.status(box)
        if keep_disk and not ended.get("disk_saved") and ended.get("disk_error"):
            raise EngineError(f"the disk could not be kept: {ended['disk_error']}", stage="save disk")
        return _ended(ended)

    async def remove(self, box: Box) -> None:
        run_dir = Path(box.run_dir)
        await end_all(run_dir)
        groups = [group["dir"] for group in box.engine_state.get("cgroups", [])]
        if not _removed_at_once(groups, (box.run_dir, box.state_dir)):
            await asyncio.to_thread(_remove_all, groups, (run_dir, Path(box.state_dir)))

    async def close(self) -> None:
        return

    async def sweep(self, known: frozenset[str]) -> list[str]:
        removed = []
        for directory in await asyncio.to_thread(_strangers, self.home, known):
            await end_all(directory)
            await asyncio.to_thread(shutil.rmtree, directory, True)
            removed.append(f"directory {directory.name}")
        for group in await asyncio.to_thread(cgroups.leftovers, self.facts.cgroups, self.tag):
            if not any(group.endswith(name) for name in known):
                await asyncio.to_thread(_remove_groups, [group])
                removed.append(f"cgroup {group}")
        return removed


async def end_all(run_dir: Path) -> None:
    """End whatever runs for this run directory: politely through its supervisor, else by killing that."""
    if not run_dir.exists():
        return
    written = supervisor.read_json(run_dir / "supervisor.json")
    if written is not None:
        try:
            await supervisor.ask(run_dir, {"op": "end", "reason": "killed", "keep_disk": False})
        except EngineError:
            await supervisor.kill(int(written["supervisor_pid"]), run_dir)
        if supervisor.is_supervisor(int(written["supervisor_pid"]), run_dir):
            await supervisor.wait_gone(int(written["supervisor_pid"]))
    else:
        for pid in await asyncio.to_thread(supervisor.find_in, run_dir):
            await supervisor.kill(pid, run_dir)


def may_run(run_dir: Path) -> bool:
    written = supervisor.read_json(run_dir / "supervisor.json")
    if written is None or _last_word(run_dir) is not None:
        return False
    return supervisor.is_supervisor(int(written["supervisor_pid"]), run_dir)


def _ended(last_word: dict[str, Any]) -> BoxStatus:
    return BoxStatus(status="exited", exit_code=last_word.get("exit_code"), reason=last_word.get("reason"))


def _last_word(run_dir: Path) -> dict[str, Any] | None:
    """How the present run has ended, once its supervisor has written it down."""
    ended = supervisor.read_json(run_dir / "exit.json")
    return ended if ended is not None and _same_run(ended, supervisor.read_json(run_dir / "supervisor.json")) else None


def _same_run(found: dict[str, Any], written: dict[str, Any] | None) -> bool:
    return written is None or found.get("nonce") == written.get("nonce")


def _is_frozen(box: Box) -> bool:
    freezer = box.engine_state.get("freezer")
    if not freezer:
        return False
    try:
        return freezer["frozen"] in Path(freezer["state"]).read_text()
    except OSError:
        return False


def _strangers(home: Path, known: frozenset[str]) -> list[Path]:
    """Run directories of no known sandbox, and what a killed probe left."""
    runs = [path for path in home.glob("run/sb_*") if path.name not in known]
    return sorted([*runs, *home.glob(f"{PROBE_PREFIX}*")])


def _removed_at_once(groups: list[str], directories: Iterable[str]) -> bool:
    """Mostly the supervisor leaves nothing but two small files, and a thread would cost more than they do. False when
    there is more."""
    if any(os.path.lexists(group) for group in groups):
        return False
    try:
        for directory in filter(os.path.lexists, directories):
            for name in _LEFT:
                _unlink(f"{directory}/{name}")
            os.rmdir(directory)
    except OSError:
        return False
    return True


def _remove_all(groups: list[str], directories: Iterable[Path]) -> None:
    _remove_groups(groups)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_groups(groups: list[str]) -> None:
    for group in groups:
        cgroups.remove(group)


def make_directories(box: Box) -> None:
    for directory in (box.run_dir, box.state_dir):
        Path(directory).mkdir(0o700, parents=True, exist_ok=True)


def forget_last_run(run_dir: Path) -> None:
    for name in ("supervisor.json", "exit.json", "guest.sock", "control.sock"):
        _unlink(str(run_dir / name))


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)
