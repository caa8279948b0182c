"""Blank disks and copies with holes."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cloche.engines.vm import disks
from cloche.model.errors import EngineError, InvalidError, NoSpaceError, UnavailableError

needs_mke2fs = pytest.mark.skipif(
    not shutil.which("mke2fs", path=f"{os.environ.get('PATH')}:/usr/sbin:/sbin"), reason="mke2fs is not installed"
)


def blank(home: Path, mib: int) -> Path:
    return asyncio.run(disks.blank_disk(home, mib))


@needs_mke2fs
@pytest.mark.parametrize("mib", [1, 2, 7, 64, 1024, 20_000, 1_000_000])
def test_a_blank_of_any_size_is_small_and_sound(tmp_path: Path, mib: int) -> None:
    path = blank(tmp_path, mib)
    assert path.stat().st_size == mib << 20 and path.stat().st_mode & 0o777 == 0o400
    assert path.stat().st_blocks * 512 < (4 << 20)
    fsck = shutil.which("e2fsck", path="/usr/sbin:/sbin")
    if fsck and mib < 100_000:
        assert subprocess.run([fsck, "-fn", str(path)], capture_output=True).returncode == 0
    assert [each.name for each in path.parent.iterdir() if each.name != ".lock"] == [path.name]


@needs_mke2fs
def test_the_kernel_has_no_inode_tables_to_zero_and_npm_has_enough_inodes(tmp_path: Path) -> None:
    program = shutil.which("dumpe2fs", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("dumpe2fs is not installed")
    said = subprocess.run([program, str(blank(tmp_path, 1024))], capture_output=True, text=True).stdout
    assert said.count("ITABLE_ZEROED") == said.count("\nGroup ") == 8
    assert "Inode count:              131072" in said
    assert "has_journal" not in said


@needs_mke2fs
def test_a_size_has_one_blank_with_the_same_bytes_everywhere(tmp_path: Path) -> None:
    first = blank(tmp_path / "one", 8)
    inode = first.stat().st_ino
    assert blank(tmp_path / "one", 8).stat().st_ino == inode
    assert first.read_bytes() == blank(tmp_path / "two", 8).read_bytes()


@needs_mke2fs
def test_many_at_once_make_it_once(tmp_path: Path) -> None:
    async def all_at_once() -> set[tuple[Path, int]]:
        paths = await asyncio.gather(*(disks.blank_disk(tmp_path, 8) for _ in range(6)))
        return {(path, path.stat().st_ino) for path in paths}

    assert len(asyncio.run(all_at_once())) == 1


@needs_mke2fs
def test_what_a_killed_one_left_is_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "vm/blank" / disks.blank_name(8)
    place.parent.mkdir(parents=True)
    place.with_suffix(".partial").write_bytes(b"half")
    assert blank(tmp_path, 8) == place and not place.with_suffix(".partial").exists()


@pytest.mark.parametrize("mib", [0, -1, 1_000_001])
def test_sizes_that_no_disk_has(tmp_path: Path, mib: int) -> None:
    with pytest.raises(InvalidError):
        blank(tmp_path, mib)
    assert not (tmp_path / "vm").exists()


def test_without_mke2fs_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(UnavailableError) as caught:
        blank(tmp_path, 8)
    assert caught.value.remedy == "apt-get install e2fsprogs"


@pytest.mark.parametrize(
    ("says", "kind"), [("x: No space left on device", NoSpaceError), ("it does not like it", EngineError)]
)
def test_mke2fs_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, kind: type) -> None:
    program = tmp_path / "mke2fs"
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(disks, "mke2fs", lambda: str(program))
    with pytest.raises(kind):
        blank(tmp_path / "home", 8)
    assert [each.name for each in (tmp_path / "home/vm/blank").iterdir()] == [".lock"]


def test_a_copy_keeps_holes_and_bytes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        for at in (0, 1 << 20, (1 << 30) - 4096):
            file.seek(at)
            file.write(os.urandom(4096))
        file.truncate(2 << 30)
    count = disks.copy_disk(source, tmp_path / "copy")
    copy = (tmp_path / "copy").stat()
    assert count == 3 * 4096 and copy.st_size == 2 << 30 and copy.st_mode & 0o777 == 0o600
    assert copy.st_blocks * 512 <= 16 * 4096
    with source.open("rb") as one, (tmp_path / "copy").open("rb") as two:
        for at in (0, 1 << 20, (1 << 30) - 4096, 1 << 29):
            assert os.pread(one.fileno(), 8192, at) == os.pread(two.fileno(), 8192, at)


@pytest.mark.parametrize("size", [0, 1, 4095, 100_000])
def test_files_of_any_size(tmp_path: Path, size: int) -> None:
    (tmp_path / "source").write_bytes(os.urandom(size))
    assert disks.copy_disk(tmp_path / "source", tmp_path / "copy") == size
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "source").read_bytes()


def test_a_hole_alone(tmp_path: Path) -> None:
    with (tmp_path / "source").open("wb") as file:
        file.truncate(1 << 40)
    assert disks.copy_disk(tmp_path / "source", tmp_path / "copy") == 0
    assert (tmp_path / "copy").stat().st_size == 1 << 40 and (tmp_path / "copy").stat().st_blocks == 0


def test_a_target_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "copy").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("copy", "link"):
        with pytest.raises(FileExistsError):
            disks.copy_disk(tmp_path / "source", tmp_path / name)
    assert (tmp_path / "copy").read_bytes() == b"old" and not (tmp_path / "elsewhere").exists()
    with pytest.raises(OSError, match="symbolic"):
        disks.copy_disk(tmp_path / "link", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_full_disk_leaves_no_half_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "source").write_bytes(b"x" * 5000)
    monkeypatch.setattr(disks, "_cloned", lambda *args: False)
    monkeypatch.setattr(disks, "copy_range", full)
    with pytest.raises(NoSpaceError):
        disks.copy_disk(tmp_path / "source", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_copies_of_many_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of a source that the kernel reads in small pieces."""
    content = os.urandom((3 << 20) + 77)
    (tmp_path / "source").write_bytes(content)
    assert disks.copy_disk(tmp_path / "source", tmp_path / "whole") == len(content)
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: real(fd, [buffers[0][:100_000]], at))
    assert disks.copy_disk(tmp_path / "source", tmp_path / "pieces") == len(content)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes() == content
