"""A machine that waits for somebody has been made like one of another user's, and knows nothing of that one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloche.engines.bench import Bench, bench
from cloche.engines.vm.engine import VmEngine
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec
from tests.vm_root import VmPlace

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
SECRET = "the-project-of-alice"
LOOK = 'print(open("/dev/vdb", "rb").read().count(b"the-project-" + b"of-alice"), end="")'


async def refilled(boxes: Bench) -> None:
    """Return when another machine waits."""
    engine = boxes.engine
    assert isinstance(engine, VmEngine)
    while engine._standbys._filling:
        await asyncio.gather(*engine._standbys._filling)


async def test_names_of_one_user_are_in_no_machine_of_another(vm_place: VmPlace, tmp_path: Path) -> None:
    """The template was made for her, and the machine that waited is a clone of it, made after hers."""
    common = {"image": str(vm_place.directory), "limits": Limits(memory_mib=192, disk_mib=32)}
    async with bench(VmEngine, vm_place.alone(tmp_path / "home")) as boxes:
        hers = await boxes.create(SandboxSpec(hostname=SECRET, env={"NAME": SECRET}, **common))
        assert (await hers.exec("hostname")).stdout.decode().strip() == SECRET
        await refilled(boxes)
        waited = await boxes.create(SandboxSpec(**common))
        done = await waited.exec("python3", "-c", LOOK, user="root")
        assert (done.stdout, done.stderr) == (b"0", b"")
