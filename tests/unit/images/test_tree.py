"""What a scan takes, what it leaves out and what changes its fingerprint."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cloche.images.host import Entry
from cloche.images.hostparts import PLAIN, USR
from cloche.images.tree import LeftOut, Node, fingerprint, graft, scan, skeleton, tree_bytes, walk


def taken(place: Path, left: LeftOut | None = None) -> Node:
    node = scan(os.fsencode(place), PLAIN, left or LeftOut())
    assert node is not None
    return node


@pytest.fixture(autouse=True)
def everybody_may_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)


def test_what_others_may_not_read_stays_out(tmp_path: Path) -> None:
    for name, mode in {"open": 0o644, "private": 0o640, "secret": 0o600, "everybodys": 0o4777}.items():
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)
    (tmp_path / "closed").mkdir(0o750)
    (tmp_path / "closed/within").write_text("x")
    left = LeftOut()
    children = taken(tmp_path, left).children
    assert set(children) == {b"open", b"everybodys"}
    assert set(left.paths) == {str(tmp_path / name) for name in ("private", "secret", "closed")}
    everybodys = children[b"everybodys"]
    assert (everybodys.mode, everybodys.uid, everybodys.gid) == (0o777, 0, 0)


def test_what_is_no_file_stays_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o666)
    here = os.open(tmp_path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    (tmp_path / "broken").symlink_to("nowhere")
    left = LeftOut()
    assert set(taken(tmp_path, left).children) == {b"broken"}
    assert left.counts == {"is no file, directory or link": 2}


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert scan(os.fsencode(tmp_path / "no"), PLAIN, LeftOut()) is None


def test_a_directory_that_vanishes_during_the_scan_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    real = os.scandir

    def scandir(place: bytes):  # type: ignore[no-untyped-def]
        if place.endswith(b"sub"):
            os.rmdir(place)
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    left = LeftOut()
    assert taken(tmp_path, left).children[b"sub"].children == {}
    assert left.paths == {}


def test_a_tree_deeper_than_paths_can_be(tmp_path: Path) -> None:
    """It ends, and says where."""
    name = "d" * 200
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(name, 0o755, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    left = LeftOut()
    root = taken(tmp_path, left)
    assert [why for why in left.counts if why.startswith("cannot be read")] == ["cannot be read: File name too long"]
    assert 18 <= len(list(walk(root))) <= 22


def test_what_is_left_out_is_counted_beyond_what_is_named() -> None:
    left = LeftOut(most=2)
    for number in range(5):
        left.add(b"/%d\xff" % number, "why")
    assert left.counts == {"why": 5} and len(left.paths) == 2


def test_usr_without_documentation_and_languages(tmp_path: Path) -> None:
    for path in ("share/doc/x/README", "share/locale/de/m", "share/locale/en_GB/m", "share/man/man1/x.1", "bin/x",
                 "share/locale/C/m", "share/locale/locale.alias", "lib/debug/y", "src/z", "include/h.h"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    left = LeftOut()
    node = scan(os.fsencode(tmp_path), USR, left)
    assert node is not None
    files = {os.fsdecode(path) for path, found in walk(node) if found.kind == "file"}
    assert files == {"bin/x", "share/locale/en_GB/m", "share/locale/C/m", "share/locale/locale.alias", "include/h.h"}
    assert node.children[b"share"].children[b"doc"].children == {}
    assert left.counts == {
        "documentation": 2, "another language": 1, "only for a debugger": 1, "for the host's own kernel": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "new").touch(),
        lambda top: (top / "a").unlink(),
        lambda top: (top / "a").chmod(0o755),
        lambda top: (top / "a").write_text("other length"),
        lambda top: os.utime(top / "a", (1, 1)),
        lambda top: (top / "a").rename(top / "c"),
        lambda top: ((top / "l").unlink(), (top / "l").symlink_to("b")),
        lambda top: (top / "d/e").rename(top / "d/f"),
    ],
)
def test_the_fingerprint_changes_with_everything(tmp_path: Path, change: Callable[[Path], object]) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "a").write_text("a")
    (tmp_path / "l").symlink_to("a")
    before = fingerprint(taken(tmp_path))
    assert fingerprint(taken(tmp_path)) == before
    change(tmp_path)
    assert fingerprint(taken(tmp_path)) != before


def test_reading_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    before = fingerprint(taken(tmp_path))
    (tmp_path / "a").read_text()
    list(tmp_path.iterdir())
    assert fingerprint(taken(tmp_path)) == before


def test_names_cannot_be_taken_for_other_names() -> None:
    def made(*paths: bytes) -> str:
        root = Node("dir")
        for path in paths:
            graft(root, path, Node("link", content=b"x", size=1))
        return fingerprint(root)

    assert len({made(b"ab"), made(b"a", b"b"), made(b"a/b"), made(b"a\0b"), made(b"b", b"a\0")}) == 5


def test_a_skeleton_and_what_is_put_into_it() -> None:
    root = skeleton([Entry("dir", "/etc", 0o755), Entry("file", "/etc/passwd", 0o644, content="root"),
                     Entry("link", "/bin", target="usr/bin")])  # fmt: skip
    ssl = Node("dir", 0o755)
    graft(ssl, b"certs", Node("file", size=3))
    graft(root, b"/etc/ssl", ssl)
    graft(root, b"/etc", Node("dir", 0o700))
    assert [path for path, _ in walk(root)] == [b"", b"bin", b"etc", b"etc/passwd", b"etc/ssl", b"etc/ssl/certs"]
    assert root.children[b"etc"].mode == 0o700
    assert stat.S_IMODE(root.children[b"bin"].mode) == 0o777
    assert tree_bytes(root) == 3 + len("root") + len("usr/bin")
