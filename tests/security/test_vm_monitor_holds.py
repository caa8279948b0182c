"""What the QEMU of a machine really has by the plan of the engine: what a machine that took it over would have."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.engines.bench import Sandbox, bench
from cloche.engines.vm import monitor
from cloche.engines.vm.engine import VmEngine
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec
from tests.vm_root import VmPlace

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
DISK_MIB = 32
ACCESS = os.O_ACCMODE


def files(pid: int) -> Iterator[tuple[str, int]]:
    """Name and way of every file with a place that it holds open; devices of every process are not worth a word."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{number}"
        if stat.S_ISREG(os.stat(path).st_mode):
            flags = next(
                line for line in Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines() if "flags" in line
            )
            yield os.path.basename(os.readlink(path)), int(flags.split()[1], 8) & ACCESS


def check(sandbox: Sandbox) -> None:
    pid = monitor.pid_of(Path(sandbox.box.run_dir))
    held = {(name.partition(".")[2] or name, way) for name, way in files(pid)}
    assert {way for name, way in held if name == "img"} == {os.O_RDWR}
    assert {name for name, way in held if way != os.O_RDONLY} == {"img"}
    assert {name for name, _ in held} <= {"img", "erofs", "memory", "rom", "bin"}
    limits = Path(f"/proc/{pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max file size"))
    assert line.split()[3:5] == [str(DISK_MIB << 20)] * 2


async def test_its_disk_and_nothing_else_that_it_may_write(vm_place: VmPlace, tmp_path: Path) -> None:
    """Nor anything of the captures that were taken of it, and of the one that it came from."""
    spec = SandboxSpec(image=str(vm_place.directory), limits=Limits(memory_mib=192, disk_mib=DISK_MIB))
    async with bench(VmEngine, vm_place.home(tmp_path / "home")) as boxes:
        parent, capture = await boxes.create(spec), tmp_path / "capture"
        check(parent)
        capture.mkdir(0o700)
        manifest = await boxes.engine.capture(parent.box, str(capture))
        check(parent)
        child = await boxes.restore(capture, manifest, box=boxes.plan(spec))
        check(child)
        assert all(path.stat().st_mode & 0o022 == 0 for path in tmp_path.rglob("*") if not path.is_symlink())
