"""What QEMU loads, read from what programs print."""

import errno
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloche.engines.vm import bundle
from cloche.model.errors import ClocheError, EngineError, NoSpaceError, UnavailableError

LDD = """\
\tlinux-vdso.so.1 (0x00007f59905fc000)
\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f598e200000)
\tlibgone.so.2 => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f5990000000)
"""


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright", (10, 0, 2)),
        ("QEMU emulator version 7.2.17", (7, 2, 17)),
        ("QEMU emulator version 9.2", (9, 2, 0)),
    ],
)
def test_versions(text: str, version: tuple[int, int, int]) -> None:
    assert bundle.parse_version(text) == version


def test_a_program_without_a_version_is_no_qemu() -> None:
    with pytest.raises(EngineError):
        bundle.parse_version("hello")


def test_libraries_are_named_as_they_are_looked_for() -> None:
    assert bundle.parse_libraries(LDD) == {
        "libz.so.1": Path("/lib/x86_64-linux-gnu/libz.so.1"),
        "ld-linux-x86-64.so.2": Path("/lib64/ld-linux-x86-64.so.2"),
    }


@pytest.mark.parametrize(("version", "clones"), [((10, 0, 0), True), ((11, 1, 0), True), ((9, 2, 9), False)])
def test_only_newer_ones_can_be_cloned(version: tuple[int, int, int], clones: bool) -> None:
    assert bundle.Bundle(path="/b", key="k", version=version, loader="ld.so").clones is clones


def test_every_file_is_in_the_key(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("one")
    first = bundle.hash_of({"bin/q": tmp_path / "a"})
    assert bundle.hash_of({"bin/q": tmp_path / "b"}) == first
    assert bundle.hash_of({"lib/q": tmp_path / "a"}) != first
    (tmp_path / "a").write_text("two")
    assert bundle.hash_of({"bin/q": tmp_path / "a"}) != first


@pytest.mark.anyio
async def test_without_qemu_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLOCHE_QEMU", raising=False)
    with pytest.raises(UnavailableError) as caught:
        await bundle.bundle(tmp_path)
    assert caught.value.remedy == bundle.REMEDY


@pytest.mark.anyio
async def test_a_program_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "qemu"
    script.write_text("#!/bin/sh\necho something else\n")
    os.chmod(script, 0o755)
    monkeypatch.setenv("CLOCHE_QEMU", str(script))
    with pytest.raises(ClocheError):
        await bundle.bundle(tmp_path / "home")


def test_two_at_once_do_not_take_each_others_files_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict.fromkeys(("bin/q", "lib/l", "share/s"), tmp_path / "source")
    (tmp_path / "source").write_text("it")
    copy, together = shutil.copyfile, threading.Barrier(2, timeout=30)

    def in_step(source: Path, target: Path) -> None:
        together.wait()
        copy(source, target)

    monkeypatch.setattr(bundle.shutil, "copyfile", in_step)
    target = tmp_path / "made" / "key"
    target.parent.mkdir()
    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(bundle._copy_all, files, target) for _ in range(2)]:
            done.result()
    assert [each.name for each in target.parent.iterdir()] == ["key"]
    assert all((target / name).read_text() == "it" for name in files)


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle.shutil, "copyfile", full)
    with pytest.raises(NoSpaceError) as caught:
        bundle._copy_all({"bin/q": tmp_path / "source"}, tmp_path / "key")
    assert caught.value.remedy == f"df -h {tmp_path}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lost", ["lib/ld.so", f"bin/{bundle.PROGRAM}", "share/qboot.rom"])
def test_a_copy_that_lost_files_is_none(tmp_path: Path, lost: str) -> None:
    for name in ("lib/ld.so", f"bin/{bundle.PROGRAM}", "share/qboot.rom"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert bundle._is_whole(tmp_path, "ld.so")
    (tmp_path / lost).unlink()
    assert not bundle._is_whole(tmp_path, "ld.so")
