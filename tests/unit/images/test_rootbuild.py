"""One build of a root image: from the store or new, alone, and nothing left of one that failed."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloche.images import erofs, rootbuild
from cloche.images.tree import LeftOut, Node, fingerprint, graft
from cloche.model.errors import EngineError, NoSpaceError, UnavailableError
from tests.unit.images.erofs_reader import Image


def small(left: LeftOut) -> Node:
    left.add(b"/somewhere", "too secret")
    root = Node("dir")
    graft(root, b"hello", Node("file", content=b"there", size=5))
    return root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return rootbuild.store_of(tmp_path / "home")


def names(store: Path) -> set[str]:
    return {path.suffix for path in store.iterdir() if path.name != ".lock"}


def test_a_build_and_what_is_written_beside_it(store: Path) -> None:
    about = rootbuild.build(store, small)
    image = store / f"{about['key']}.erofs"
    assert image.stat().st_mode & 0o777 == 0o444 and image.stat().st_size == about["bytes"]
    assert Image(image).files()[b"hello"].content == b"there"
    assert json.loads((store / f"{about['key']}.json").read_text()) == about
    assert about["left_out"] == {"/somewhere": "too secret"} and about["left_out_counts"] == {"too secret": 1}
    assert about["files"] == 2 and store.stat().st_mode & 0o077 == 0


def test_the_second_build_is_the_first(store: Path) -> None:
    about = rootbuild.build(store, small)
    inode = (store / f"{about['key']}.erofs").stat().st_ino
    assert rootbuild.build(store, small) == about
    assert (store / f"{about['key']}.erofs").stat().st_ino == inode


@pytest.mark.parametrize("damage", ["truncate", "zero", "about", "no about"])
def test_a_damaged_image_is_built_again(store: Path, damage: str) -> None:
    about = rootbuild.build(store, small)
    image, text = store / f"{about['key']}.erofs", store / f"{about['key']}.json"
    image.chmod(0o600)
    if damage == "truncate":
        os.truncate(image, 10)
    elif damage == "zero":
        image.write_bytes(bytes(about["bytes"]))
    elif damage == "about":
        text.write_text("{")
    else:
        text.unlink()
    assert rootbuild.build(store, small) == about
    assert Image(image).files()[b"hello"].content == b"there"


@pytest.mark.parametrize("step", ["_check_room", "_write_image", "_write_text", "_fsck"])
def test_a_build_that_fails_leaves_nothing_that_the_next_does_not_remove(
    store: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(rootbuild, step, fail)
        with pytest.raises(MemoryError):
            rootbuild.build(store, small)
        assert names(store) <= {".json"}
    (store / "killed.partial").write_bytes(b"x")
    (store / "killed.json.partial").write_bytes(b"x")
    rootbuild.build(store, small)
    assert names(store) == {".erofs", ".json"}


def test_two_at_once_build_it_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    both = threading.Barrier(2)
    real = erofs.write

    def write(*args: object) -> None:
        built.append(1)
        real(*args)  # type: ignore[arg-type]

    def make(left: LeftOut) -> Node:
        root = small(left)
        both.wait(timeout=20)
        return root

    monkeypatch.setattr(erofs, "write", write)
    results: list[dict[str, object]] = []
    threads = [threading.Thread(target=lambda: results.append(rootbuild.build(store, make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(built) == 1 and results[0] == results[1]


def test_files_that_change_are_looked_at_again(store: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    rounds = []

    def make(left: LeftOut) -> Node:
        rounds.append(1)
        victim.write_text("x" * len(rounds))
        root = Node("dir")
        found = victim.stat()
        graft(root, b"v", Node("file", size=found.st_size, source=os.fsencode(victim), stamp=_stamp(victim)))
        if len(rounds) < 3:
            victim.write_text("other")
        return root

    about = rootbuild.build(store, make)
    assert len(rounds) == 3
    assert Image(store / f"{about['key']}.erofs").files()[b"v"].content == b"xxx"


def _stamp(path: Path):  # type: ignore[no-untyped-def]
    from cloche.images.tree import stamp_of

    return stamp_of(path.stat())


def test_files_that_never_keep_still(store: Path) -> None:
    def make(left: LeftOut) -> Node:
        root = Node("dir")
        graft(root, b"gone", Node("file", size=1, source=b"/nonexistent/gone"))
        return root

    with pytest.raises(UnavailableError) as caught:
        rootbuild.build(store, make)
    assert caught.value.remedy and names(store) == set()


def test_no_room_is_said_before_anything_is_written(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootbuild, "free_bytes", lambda place: 4096)
    with pytest.raises(NoSpaceError) as caught:
        rootbuild.build(store, small)
    assert "needs 1 MiB; 0 MiB are free" in caught.value.message and caught.value.details["needed_bytes"] == 8192
    assert names(store) == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_meanwhile(store: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(erofs, "write", _failing(OSError(number, "full")))
    with pytest.raises(NoSpaceError):
        rootbuild.build(store, small)
    assert names(store) == set()


def test_an_image_that_was_written_wrongly_is_not_used(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erofs, "write", lambda fd, *rest: os.ftruncate(fd, 8192))
    with pytest.raises(EngineError, match="superblock"):
        rootbuild.build(store, small)
    assert names(store) == set()


def _failing(error: Exception) -> Callable[..., None]:
    def fail(*args: object) -> None:
        raise error

    return fail


def test_the_image_of_the_host_is_current_while_the_signs_are(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signs = ["one"]
    monkeypatch.setattr(rootbuild.hostparts, "signs", lambda found: signs[0])
    monkeypatch.setattr(rootbuild.hostparts, "host_tree", lambda found, left: small(left))
    assert rootbuild.current_host(store) is None
    assert rootbuild.main([str(store.parent.parent), "host"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[-1]["image"]["key"] == fingerprint(small(LeftOut()))
    current = rootbuild.current_host(store)
    assert current is not None and current["key"] == said[-1]["image"]["key"]
    signs[0] = "two"
    assert rootbuild.current_host(store) is None
    signs[0] = "one"
    (store / f"{current['key']}.erofs").unlink()
    assert rootbuild.current_host(store) is None


@pytest.mark.parametrize("argv", [["x", "moon"], ["x", "directory", "/nonexistent/x"], ["/proc/none", "host"]])
def test_errors_are_said_as_errors(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rootbuild.hostparts, "signs", lambda found: "")
    monkeypatch.setattr(rootbuild.hostparts, "host_tree", lambda found, left: small(left))
    assert rootbuild.main(argv) == 1
    assert "error" in json.loads(capsys.readouterr().out.splitlines()[-1])
