"""What machines of this data directory stand on: QEMU, kernel, initramfs, root filesystem, accelerator, processor."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cloche.engines.vm import assets, bundle, firecracker_bundle, kvm, vmms
from cloche.engines.vm.machine import Accelerator
from cloche.engines.vm.plan import Ground
from cloche.model.errors import UnavailableError
from cloche.model.progress import Report

if TYPE_CHECKING:
    from cloche.images.hostroot import RootImage

#: the host's /usr is looked at again after so long; a machine that was made meanwhile has files of before
ROOT_SECONDS = 600.0
_ROOT_KEY = re.compile(r"[0-9a-f]{64}")
_GIGAHERTZ = re.compile(r"@ (\d+\.\d+)GHz")


class Grounds:
    """One per engine: what does not change while a node lives is looked up once."""

    def __init__(self, home: Path, guest: Path) -> None:
        self._home, self._guest = home, guest
        self._roots: dict[str, tuple[float, RootImage]] = {}
        self._looking = asyncio.Lock()

    async def of(self, image: str, root_key: str | None = None, *, vmm: vmms.Name | None = None) -> Ground:
        """`root_key`: of the root filesystem that it has to be, if that is still here; what was captured on the /usr of
        before an update goes on with that one. Raises UnavailableError with the remedy of what is missing."""
        made, found = await self.bundle(vmm), await self.assets()
        root = await asyncio.to_thread(kept_root, self._home, root_key) or await self._root(image)
        return Ground(
            bundle=made, kernel=str(found.kernel), kernel_id=found.kernel_id, initramfs=str(found.initramfs),
            initramfs_id=found.initramfs_id, root=str(root.path), root_key=root.key,
            accelerator=accelerator(self._home), cpu=processor(),
        )  # fmt: skip

    async def bundle(self, vmm: vmms.Name | None = None) -> bundle.Bundle:
        """`vmm`: of a machine that has one already."""
        if (vmm or vmms.wanted()) == "firecracker":
            return await firecracker_bundle.bundle(self._home)
        return await bundle.bundle(self._home)

    async def assets(self) -> assets.Assets:
        return await asyncio.to_thread(assets.current, self._home, self._guest)

    async def _root(self, image: str) -> RootImage:
        async with self._looking:
            looked, found = self._roots.get(image, (0.0, None))
            if found is None or time.monotonic() - looked > ROOT_SECONDS or not Path(found.path).exists():
                found = await self._make_root(image)
                self._roots[image] = time.monotonic(), found
            return found

    async def renew(self, report: Report) -> None:
        """Look at the whole of the host's /usr, so that no sandbox waits for its image. Raises NoSpaceError and
        EngineError."""
        from cloche.images import hostroot

        found = await hostroot.host_root(self._home, report, thorough=True)
        self._roots["host"] = time.monotonic(), found

    async def _make_root(self, image: str) -> RootImage:
        from cloche.images import hostroot

        if image == "host":
            return await hostroot.host_root(self._home, None)
        if not Path(image).is_dir():
            raise UnavailableError(f"image {image!r} is not a directory", remedy="--image host")
        return await hostroot.directory_root(self._home, Path(image), None)


def kept_root(home: Path, key: str | None) -> RootImage | None:
    """The image with this key, which comes from a manifest that anybody may have written."""
    from cloche.images import hostroot

    path = home / "images" / "erofs" / f"{key}.erofs"
    if key is None or not _ROOT_KEY.fullmatch(key) or not path.is_file():
        return None
    return hostroot.RootImage(path, key, path.stat().st_size)


def accelerator(home: Path) -> Accelerator:
    return "kvm" if kvm.works(home) else "tcg"


@functools.cache
def processor() -> str:
    """A machine that was captured on one processor does not go on with another: it has seen what that one can do, and
    counts time by its clock."""
    text = _cpuinfo()
    wanted = ("model name", "flags", "vendor_id", "cpu family", "model", "stepping")
    first = text.partition("\n\n")[0].splitlines()
    kept = [line for line in first if line.partition(":")[0].strip() in wanted]
    return hashlib.sha256("\n".join([*kept, str(khz() // 1000)]).encode()).hexdigest()[:16]


def khz() -> int:
    """How fast the time stamp counter runs. The current frequency is it in a virtual machine; where it changes with the
    load, the name of the processor says it."""
    text = _cpuinfo()
    now = re.search(r"^cpu MHz\s*:\s*(\d+(?:\.\d+)?)", text, re.MULTILINE)
    named = _GIGAHERTZ.search(text)
    current = int(float(now[1]) * 1000) if now else 0
    base = int(float(named[1]) * 1e6) if named else 0
    return current if current and (not base or abs(current - base) < base * 0.02) else base or current


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
