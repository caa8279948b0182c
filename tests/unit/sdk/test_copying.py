"""What crosses between host and sandbox: trees go out as links and files, and come back as if sent by an enemy."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from cloche.model.errors import GuestError, InvalidError, NotFoundError
from cloche.sdk import pack, untar
from cloche.sdk.values import CopyReport


def archive(*entries: tarfile.TarInfo, content: bytes = b"evil") -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for entry in entries:
            if entry.isreg():
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    out.seek(0)
    return out


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


SYM, HARD, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
HOSTILE = {
    "absolute": [entry("/etc/cloche-test")],
    "parent": [entry("../out")],
    "parent-inside": [entry("a/../../out")],
    "absolute-link": [entry("link", SYM, "/etc/passwd")],
    "climbing-link": [entry("link", SYM, "../out")],
    "climbing-deep": [entry("a", DIR, mode=0o755), entry("a/link", SYM, "../../out")],
    "climbing-behind-a-name": [entry("a", DIR), entry("a/up", SYM, ".."), entry("b", SYM, "a/up/../out")],
    "through-a-link": [entry("d", DIR, mode=0o755), entry("link", SYM, "d"), entry("link/file")],
    "hard-link-outside": [entry("link", HARD, "../out")],
    "hard-link-to-host": [entry("link", HARD, "already")],
    "device": [entry("null", tarfile.CHRTYPE)],
    "pipe": [entry("pipe", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_entries_never_reach_the_host(name: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "already").write_text("mine")
    with pytest.raises(InvalidError):
        untar.Extraction(str(target), skip_refused=False).run(archive(*HOSTILE[name]))
    report = untar.Extraction(str(target), skip_refused=True).run(archive(*HOSTILE[name]))
    assert report.refused
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "already").read_text() == "mine"


def test_a_link_that_is_there_already_is_not_followed(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (target / "d").symlink_to(outside)
    (target / "f").symlink_to(outside / "f")
    report = untar.Extraction(str(target), skip_refused=True).run(archive(entry("d/file"), entry("f")))
    assert [name for name, _ in report.refused] == ["d/file"]
    assert not list(outside.iterdir())
    assert not (target / "f").is_symlink() and (target / "f").read_bytes() == b"evil"


def test_only_plain_permission_bits_survive(tmp_path: Path) -> None:
    sent = archive(entry("d", DIR, mode=0o2555), entry("d/f", mode=0o6755), entry("d/l", SYM, "f"))
    report = untar.Extraction(str(tmp_path / "new"), skip_refused=False).run(sent)
    assert (tmp_path / "new/d/f").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "new/d").stat().st_mode & 0o7777 == 0o555
    assert (report.files, report.bytes) == (2, 4)


@pytest.mark.parametrize("sent", [b"no tar at all" * 100, archive(entry("f")).getvalue()[:700]])
def test_broken_streams_are_typed(sent: bytes, tmp_path: Path) -> None:
    with pytest.raises(GuestError):
        untar.Extraction(str(tmp_path), skip_refused=True).run(io.BytesIO(sent))


def test_a_huge_header_is_not_read_into_memory(tmp_path: Path) -> None:
    huge = entry("x", tarfile.XHDTYPE)
    huge.size = 8 << 30
    with pytest.raises(GuestError, match="header"):
        untar.Extraction(str(tmp_path), skip_refused=True).run(io.BytesIO(huge.tobuf(tarfile.GNU_FORMAT)))


def test_a_tree_goes_out_and_comes_back(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    (origin / "deep/er").mkdir(parents=True)
    (origin / "deep/er/name\nwith newline").write_bytes(b"x" * 700_000)
    Path(os.fsdecode(os.fsencode(origin) + b"/\xff")).write_bytes(b"")
    (origin / "run").write_text("#!/bin/sh")
    (origin / "run").chmod(0o755)
    (origin / "link").symlink_to("deep/er")
    (origin / ("long" * 60)).write_text("long")
    os.mkfifo(origin / "pipe")
    report = CopyReport()
    sent = io.BytesIO(b"".join(pack.tree(str(origin), report)))
    assert report.refused == [("pipe", "neither a file, a directory nor a link")]
    untar.Extraction(str(tmp_path / "back"), skip_refused=False).run(sent)
    assert (tmp_path / "back/deep/er/name\nwith newline").stat().st_size == 700_000
    assert os.readlink(tmp_path / "back/link") == "deep/er"
    assert (tmp_path / "back/run").stat().st_mode & 0o777 == 0o755
    assert sorted(os.listdir(os.fsencode(tmp_path / "back"))) == sorted(
        name for name in os.listdir(os.fsencode(origin)) if name != b"pipe"
    )


def test_ten_thousand_files(tmp_path: Path) -> None:
    sent = archive(*(entry(f"d/{number}") for number in range(10_000)), content=b"")
    report = untar.Extraction(str(tmp_path / "many"), skip_refused=False).run(sent)
    assert report.files == 10_000 == len(os.listdir(tmp_path / "many/d"))


def test_a_link_of_the_host_is_packed_as_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "secret")
    assert b"".join(pack.tree(str(tmp_path / "tree"), CopyReport())).count(b"secret") == 1  # its target's name only


def test_one_file_replaces_a_link_instead_of_following_it(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "f").symlink_to(tmp_path / "victim")
    untar.Saving(str(tmp_path / "f"), 0o4755).run(io.BytesIO(b"new"))
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o755
    with pytest.raises(NotFoundError):
        untar.Saving(str(tmp_path / "no/f"), 0o644).run(io.BytesIO(b"new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "victim"]


def test_what_cannot_be_uploaded_is_typed(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        pack.open_file(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidError):
        pack.open_file(str(tmp_path / "pipe"))
