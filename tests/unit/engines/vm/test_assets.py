"""What a VM boots from: found, matched with the guest, verified."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cloche.engines.vm import assets, kernel_keeping
from cloche.engines.vm.kernel_sources import Unpacked
from cloche.model.errors import EngineError, UnavailableError
from tests.kernel_making import MODULES, RELEASE, module, vmlinux
from tests.unit.engines.vm.test_initramfs import parse

SOURCE = assets.Source(kind="file", sha256="0" * 64)
UNPACKED = Unpacked(RELEASE, vmlinux(), [(name, module(name, needs)) for name, needs in MODULES.items()],
                    redirects=False, refusals=False)  # fmt: skip


def keep(home: Path, unpacked: Unpacked = UNPACKED) -> assets.Pointer:
    (home / "vm").mkdir(exist_ok=True)
    return kernel_keeping.keep(home, unpacked, SOURCE, "x86_64", lambda point: None)


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    (tmp_path / "guest").write_bytes(b"guest one")
    return tmp_path / "guest"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_nothing_is_there(home: Path, guest: Path) -> None:
    assert assets.find(home) is None
    with pytest.raises(UnavailableError) as caught:
        assets.current(home, guest)
    assert caught.value.remedy == "cloche setup vm"
    assert assets.verify(home) == ["there is no kernel"]


def test_a_kernel_alone_gets_its_initramfs_when_it_is_needed(home: Path, guest: Path) -> None:
    keep(home)
    assert assets.find(home) is None
    found = assets.current(home, guest)
    assert assets.find(home) == found
    assert found.kernel.read_bytes() == vmlinux()
    assert parse(found.initramfs.read_bytes())["init"][1] == b"guest one"
    assert (found.release, found.architecture) == (RELEASE, "x86_64")
    assert assets.sha256(found.initramfs.read_bytes()) == found.initramfs_id
    assert assets.verify(home) == []


def test_another_guest_gets_another_initramfs_and_the_same_one_the_same(home: Path, guest: Path) -> None:
    keep(home)
    before = assets.current(home, guest)
    made = before.initramfs.stat().st_mtime_ns
    assert assets.current(home, guest) == before
    guest.write_bytes(b"guest two is longer")
    after = assets.current(home, guest)
    assert after.initramfs_id != before.initramfs_id and before.initramfs.exists()
    guest.write_bytes(b"guest one")
    assert assets.current(home, guest) == before
    assert before.initramfs.stat().st_mtime_ns == made


def test_a_guest_that_is_missing_is_said(home: Path, tmp_path: Path) -> None:
    keep(home)
    with pytest.raises(EngineError, match="the guest is missing"):
        assets.current(home, tmp_path / "none")


def change(path: Path, content: bytes) -> None:
    """Also as an ordinary user, whom its mode keeps from writing into it."""
    path.chmod(0o600)
    path.write_bytes(content)


def test_an_initramfs_that_is_lost_or_changed_is_built_again(home: Path, guest: Path) -> None:
    keep(home)
    found = assets.current(home, guest)
    content = found.initramfs.read_bytes()
    for damage in (found.initramfs.unlink, lambda: change(found.initramfs, b"short"),
                   lambda: change(found.initramfs, bytes(len(content)))):  # fmt: skip
        damage()
        assert assets.find(home) is None
        assert assets.current(home, guest).initramfs.read_bytes() == content


def test_a_kernel_that_was_changed_is_not_used(home: Path, guest: Path) -> None:
    keep(home)
    found = assets.current(home, guest)
    change(found.kernel, vmlinux() + b"x")
    assert assets.find(home) is None
    with pytest.raises(UnavailableError):
        assets.current(home, guest)
    assert assets.verify(home) == ["vmlinux is missing or was changed"]
    keep(home)
    assert assets.current(home, guest) == found


def test_times_alone_are_mended_by_reading(home: Path, guest: Path) -> None:
    pointer = keep(home)
    found = assets.current(home, guest)
    os.utime(found.kernel, ns=(1, 1))
    assert assets.find(home) is None
    again = assets.restamped(home, pointer)
    assert again is not None and again.kernel_id == found.kernel_id
    (found.kernel.parent / "modules/erofs.ko").unlink()
    assert assets.restamped(home, pointer) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version":1}', b"\xff", bytes(3 << 20)])
def test_a_pointer_that_cannot_be_read_is_none(home: Path, content: bytes) -> None:
    keep(home)
    change(home / "vm/assets.json", content)
    assert assets.find(home) is None and assets.read_pointer(home) is None


def test_a_pointer_leads_nowhere_else(home: Path) -> None:
    pointer = home / "vm/assets.json"
    kernel_id = keep(home).kernel_id
    change(pointer, pointer.read_bytes().replace(kernel_id.encode(), b"../" * 20 + b"0000"))
    assert assets.read_pointer(home) is None


def test_many_at_once_agree(home: Path, guest: Path) -> None:
    keep(home)
    found: list[assets.Assets] = []
    threads = [threading.Thread(target=lambda: found.append(assets.current(home, guest))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(map(str, found))) == 1
    assert [path.name for path in (home / "vm/initramfs").iterdir()] == [found[0].initramfs.name]


def test_old_ones_go_after_a_day_and_what_is_pointed_at_stays(home: Path, guest: Path) -> None:
    keep(home, UNPACKED._replace(modules=[]))
    old = assets.current(home, guest)
    keep(home)
    new = assets.current(home, guest)
    for path in (old.kernel.parent, old.initramfs, new.kernel.parent, new.initramfs):
        os.utime(path, (1, 1))
    (home / "vm/unfinished/x").mkdir(parents=True)
    young = home / "vm/initramfs/young.cpio"
    young.write_bytes(b"")
    kernel_keeping.tidy(home)
    assert not old.kernel.exists() and not old.initramfs.exists() and not (home / "vm/unfinished").exists()
    assert new.kernel.exists() and new.initramfs.exists() and young.exists()
