"""A guest that does not let its code go on after a capture: its own matter, and the engine knows what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.engines.base import Box
from cloche.engines.bench import bench
from cloche.engines.vm.engine import VmEngine
from cloche.model.errors import TimedOutError
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec
from tests.vm_root import VmPlace

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_one_that_refuses_to_thaw_is_captured_no_longer(
    vm_place: VmPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(box: Box) -> None:
        raise TimedOutError("it does not answer")

    spec = SandboxSpec(image=str(vm_place.directory), limits=Limits(memory_mib=192, disk_mib=32))
    async with bench(VmEngine, vm_place.home(tmp_path / "home")) as boxes:
        engine, sandbox = boxes.engine, await boxes.create(spec)
        assert isinstance(engine, VmEngine)
        (tmp_path / "capture").mkdir(0o700)
        with monkeypatch.context() as patch:
            patch.setattr(engine._guests, "thaw", refuses)
            with pytest.raises(TimedOutError):
                await engine.capture(sandbox.box, str(tmp_path / "capture"))
        # what it is said to be is the truth again, here and for the next node
        await engine.pause(sandbox.box)
        assert (await engine.status(sandbox.box)).status == "paused"
        await engine.resume(sandbox.box)
        assert (await sandbox.exec("true")).info.exit_code == 0
        assert not Path(sandbox.box.run_dir, "capturing").exists()
