"""What keeps a capture from being restored."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloche.engines.vm import captures
from cloche.engines.vm.bundle import Bundle
from cloche.engines.vm.captures import Manifest, Sum
from cloche.engines.vm.plan import Ground, Size
from cloche.model.errors import EngineError, UnavailableError
from tests.unit.images.sparse_making import a_file

pytestmark = pytest.mark.anyio
GROUND = Ground(
    bundle=Bundle(path="/b", key="q", version=(10, 0, 2), loader="ld.so"), kernel="/k", kernel_id="k", initramfs="/i",
    initramfs_id="i", root="/r", root_key="r", accelerator="tcg", cpu="c",
)  # fmt: skip
HERE = captures.requirements(GROUND)
TAKEN = captures.Taken(size=Size(ram_mib=128, vcpus=1, disk_mib=64))
MIB = 1 << 20


@pytest.mark.parametrize("field", ["qemu", "kernel", "root", "accelerator", "cpu"])
def test_whatever_differs_is_named(field: str) -> None:
    captures.require_same(HERE, GROUND)
    with pytest.raises(UnavailableError) as caught:
        captures.require_same(msgspec.structs.replace(HERE, **{field: "kvm"}), GROUND)
    assert caught.value.details["differs"] == [captures.WORDS[field]]


def manifest(directory: Path) -> Manifest:
    files = {name: captures.summed(a_file(directory / name, MIB, {0: name.encode()})) for name in captures.FILES}
    return Manifest(size_bytes=1, files=files, requires=HERE, taken=TAKEN)


async def test_a_whole_capture_passes(tmp_path: Path) -> None:
    await captures.check_files(manifest(tmp_path), tmp_path, whole=True)


@pytest.mark.parametrize("name", captures.FILES)
async def test_what_is_damaged_is_named(tmp_path: Path, name: str) -> None:
    made = manifest(tmp_path)
    os.truncate(tmp_path / name, 0)
    os.truncate(tmp_path / name, MIB)
    await captures.check_files(made, tmp_path, whole=False)
    with pytest.raises(EngineError, match=name):
        await captures.check_files(made, tmp_path, whole=True)
    (tmp_path / name).unlink()
    with pytest.raises(EngineError, match=name):
        await captures.check_files(made, tmp_path, whole=False)


@pytest.mark.parametrize(
    "damage", [{}, {"files": 3}, {"files": {"pages": {}}}, {"taken": None}, {"requires": {"qemu": 1}}]
)
def test_a_manifest_that_is_none(damage: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        captures.read_manifest(damage)


def test_a_manifest_of_another_version() -> None:
    made = Manifest(version=99, size_bytes=0, files={"pages": Sum(bytes=0, sha256="")}, requires=HERE, taken=TAKEN)
    with pytest.raises(UnavailableError):
        captures.read_manifest(msgspec.to_builtins(made))
