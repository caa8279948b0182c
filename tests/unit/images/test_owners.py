"""Owners from the file beside a directory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cloche.images.owners import directory_tree, read, sidecar
from cloche.images.tree import LeftOut
from cloche.model.errors import InvalidError, NotFoundError


def line(path: str, **values: object) -> str:
    return json.dumps({"path": path, "uid": 0, "gid": 0, "mode": 0o644} | values) + "\n"


def test_owners_and_modes_come_from_the_file_beside_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/su").touch(0o755)
    (root / "usr/bin/other").touch(0o700)
    with open(os.fsencode(root) + b"/\xff", "wb"):
        pass
    sidecar(root).write_text(
        line("usr/bin/su", gid=42, mode=0o4755) + "\n" + line("\udcff", uid=33, mode=0o600) + line("gone")
    )
    tree = directory_tree(root, LeftOut())
    su = tree.children[b"usr"].children[b"bin"].children[b"su"]
    assert (su.uid, su.gid, su.mode) == (0, 42, 0o4755)
    assert tree.children[b"\xff"].uid == 33
    other = tree.children[b"usr"].children[b"bin"].children[b"other"]
    assert (other.uid, other.gid, other.mode) == (0, 0, 0o700)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", line("x", uid=-1), line("x", uid=1 << 32), line("x", mode=0o10000), line("x", gid="0"), '{"path": "x"}',
     line("a\0b", uid=1.5), line("\ud800")],
)  # fmt: skip
def test_a_line_that_names_no_owner_is_refused_by_its_number(tmp_path: Path, text: str) -> None:
    place = tmp_path / "root.owners.jsonl"
    place.write_text(line("fine") + text)
    with pytest.raises(InvalidError, match=":2 names no owner"):
        read(place)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        directory_tree(tmp_path / "none", LeftOut())
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError):
        directory_tree(tmp_path / "file", LeftOut())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/closed").touch(0o000)
    left = LeftOut()
    assert directory_tree(tmp_path / "root", left).children == {}
    assert left.paths == {str(tmp_path / "root/closed"): "cannot be read: Permission denied"}
