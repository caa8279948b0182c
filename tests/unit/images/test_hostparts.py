"""The host's own root as a tree: what images/host.py shows, and nothing more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloche.images import hostparts
from cloche.images.host import HostSurvey
from cloche.images.tree import LeftOut, Node, graft


def big(name: bytes) -> Node:
    root = Node("dir")
    graft(root, name, Node("file", size=hostparts.HUGE_BYTES + 1))
    return root


@pytest.fixture
def usr() -> Node:
    root = Node("dir")
    for place in (b"lib/vendor-sdk", b"lib/x86_64-linux-gnu", b"lib/python3", b"local/toolkit-13",
                  b"local/lib/python3.11", b"share/suite", b"local/bin", b"lib/jvm"):  # fmt: skip
        graft(root, place, big(b"x"))
    graft(root, b"lib/small", Node("dir"))
    return root


def test_only_an_applications_own_huge_tree_is_left_out(usr: Node) -> None:
    left = LeftOut()
    hostparts._drop_huge(usr, left)
    assert set(left.paths) == {"/usr/lib/vendor-sdk", "/usr/local/toolkit-13", "/usr/share/suite"}
    assert set(left.counts) == {hostparts.TOO_LARGE}
    assert b"x" in usr.children[b"lib"].children[b"x86_64-linux-gnu"].children


def test_the_tree_of_a_small_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/ca.pem").write_text("ca")
    (tmp_path / "certs/private.key").touch(0o600)
    prefix = tmp_path / "python"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/python3").write_text("#!")
    found = HostSurvey({"bin": "usr/bin"}, (), {"ssl/certs": str(tmp_path / "certs")}, {}, str(prefix))
    monkeypatch.setattr(hostparts, "_sources", lambda files: [
        (bind.source, bind.target) for bind in files.binds if bind.source != "/usr"
    ])  # fmt: skip
    root = hostparts.host_tree(found, LeftOut())
    assert set(root.children[b"etc"].children[b"ssl"].children[b"certs.machine"].children) == {b"ca.pem"}
    user = root.children[b"home"].children[b"user"]
    assert (user.uid, user.gid) == (1000, 1000)
    python = root
    for part in os.fsencode(prefix).strip(b"/").split(b"/"):
        python = python.children[part]
    assert set(python.children) == {b"bin"}


def test_signs_change_when_something_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib/python3/site-packages").mkdir(parents=True)
    monkeypatch.setattr(hostparts, "_sources", lambda files: [(str(tmp_path), "/x")])
    monkeypatch.setattr(hostparts, "PACKAGE_DATABASES", ())
    found = HostSurvey()
    before = hostparts.signs(found)
    assert hostparts.signs(found) == before
    (tmp_path / "lib/python3/site-packages/module.py").touch()
    assert hostparts.signs(found) != before
    assert hostparts.signs(HostSurvey(top_links={"bin": "usr/bin"})) != hostparts.signs(found)
