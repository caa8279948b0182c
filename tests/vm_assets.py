"""A kernel and an initramfs for tests that boot: made once for the whole checkout, by the product's own set-up."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from cloche.engines.vm import assets, setup
from cloche.model.errors import ClocheError
from scripts.prepare_vm import CACHE, GUEST


@pytest.fixture(scope="session")
def vm_assets() -> Path:
    """What `vm/` of a data directory holds after `cloche setup vm`. Give it to a home with `put_vm_assets`; it is
    shared by all tests, so nothing below it may be changed. Skips, with the reason, where no kernel can be had."""
    if not GUEST.exists():
        pytest.skip("the guest is not built: python3 dev.py build")
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        found = assets.find(CACHE)
        # what an earlier version has left there may be less than a kernel gives now
        if found is None or None in (found.redirects, found.refusals):
            asyncio.run(setup.setup(CACHE, GUEST, {}, lambda step: None))
        assets.current(CACHE, GUEST)
    except (ClocheError, OSError) as error:
        pytest.skip(f"no kernel for virtual machines can be had here: {error}")
    return CACHE / assets.DIRECTORY


def put_vm_assets(found: Path, home: Path, *, own: bool = False) -> None:
    """Put the assets into a data directory. `own`: as copies, for a test that damages them or another user's home."""
    for source in sorted(found.rglob("*")):
        target = home / assets.DIRECTORY / source.relative_to(found)
        if source.is_dir():
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not source.name.startswith("."):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _put(source, target, own or source.name == assets.POINTER)


def _put(source: Path, target: Path, own: bool) -> None:
    if not own:
        try:
            return os.link(source, target)
        except OSError:
            pass
    shutil.copy2(source, target)
    return None
