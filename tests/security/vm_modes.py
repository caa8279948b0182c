"""Captures a machine and makes another of it, as whoever runs this.

python vm_modes.py HOME ROOT      prints what the clone of the capture remembers
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cloche.engines.bench import bench
from cloche.engines.vm.engine import VmEngine
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec


async def main(home: Path, root: str) -> None:
    spec = SandboxSpec(image=root, limits=Limits(memory_mib=192, disk_mib=32))
    async with bench(VmEngine, home) as boxes:
        parent, capture = await boxes.create(spec), home / "capture"
        await parent.guest.write_file("/home/user/known", b"known")
        capture.mkdir(0o700)
        manifest = await boxes.engine.capture(parent.box, str(capture))
        child = await boxes.restore(capture, manifest, box=boxes.plan(spec))
        print((await child.read("/home/user/known")).decode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
