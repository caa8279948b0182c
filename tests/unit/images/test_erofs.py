"""Images that are written: read back by another reader, and by fsck.erofs where it is installed."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.images import erofs
from cloche.images.tree import LeftOut, Node, Owner, Rules, fingerprint, graft, scan
from tests.unit.images.erofs_reader import Image

UUID = bytes(range(16))
ALL = Rules(lambda path: None, lambda path, found: Owner(7, 70000, stat.S_IMODE(found.st_mode)), only_public=False)


def taken(place: Path) -> Node:
    node = scan(os.fsencode(place), ALL, LeftOut())
    assert node is not None
    return node


def written(root: Node, path: Path) -> Image:
    made = erofs.plan(root)
    with path.open("wb") as file:
        erofs.write(file.fileno(), root, made, UUID)
    assert erofs.check(str(path), made.bytes) is None
    if shutil.which("fsck.erofs"):
        done = subprocess.run(["fsck.erofs", str(path)], capture_output=True)
        assert done.returncode == 0, done.stderr
    return Image(path)


def test_a_tree_comes_back(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    for size in (0, 1, 2048, 2049, 4032, 4033, 4095, 4096, 4097, 6144, 70_000):
        (top / f"a/{size}").write_bytes(os.urandom(size))
    (top / "a/run").write_text("#!/bin/sh\n")
    (top / "a/run").chmod(0o4755)
    (top / "broken").symlink_to("nowhere/at/all")
    os.utime(top / "a/1", ns=(5, 1_234_567_890_123_456_789))
    image = written(taken(top), tmp_path / "image")
    files = image.files()
    for path in top.rglob("*"):
        inode, found = files[os.fsencode(path.relative_to(top))], path.lstat()
        assert (inode.mode, inode.uid, inode.gid) == (found.st_mode, 7, 70000)
        assert inode.mtime_ns == found.st_mtime_ns
        if path.is_symlink():
            assert inode.content == os.fsencode(path.readlink())
        elif path.is_file():
            assert inode.content == path.read_bytes()
    assert len(files) == len(list(top.rglob("*"))) + 1 == image.inodes
    assert files[b""].links == 3 and files[b"a"].links == 3 and files[b"a/b"].links == 2
    assert image.uuid == UUID


def test_names_may_be_any_bytes(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path / "top")
    os.mkdir(top)
    names = [
        b"new\nline",
        b"\xff\xfe",
        b" ",
        b"-rf",
        b"n" * 255,
        b'"\\',
        b"\x1b[2J",
        "é".encode(),
        b"...",
        b"a",
        b"a.",
        b"a\x01",
    ]
    for name in names:
        with open(os.path.join(top, name), "wb") as file:
            file.write(name)
    files = written(taken(Path(os.fsdecode(top))), tmp_path / "image").files()
    assert {path: inode.content for path, inode in files.items() if path} == {name: name for name in names}


def test_hard_links_stay_hard_links(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "one").write_bytes(b"x" * 9000)
    os.link(top / "one", top / "sub/two")
    image = written(taken(top), tmp_path / "image")
    files = image.files()
    assert files[b"one"] == files[b"sub/two"] and files[b"one"].links == 2
    assert image.inodes == 3


def test_a_link_as_long_as_links_can_be(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for size in (4032, 4033, 4095):
        (top / str(size)).symlink_to("t" * size)
    files = written(taken(top), tmp_path / "image").files()
    assert {path: len(inode.content) for path, inode in files.items() if path} == {
        b"4032": 4032, b"4033": 4033, b"4095": 4095
    }  # fmt: skip


@pytest.mark.parametrize("count", [337, 338, 339, 3000])
def test_directories_of_many_blocks(tmp_path: Path, count: int) -> None:
    root = Node("dir")
    for number in range(count):
        graft(root, b"d/%d" % number, Node("file", 0o644, content=b"x", size=1))
    files = written(root, tmp_path / "image").files()
    assert len(files) == count + 2


NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {b"/", b"\0"} & {name[i : i + 1] for i in range(len(name))} and name not in (b".", b"..")
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=9000), max_size=60))
def test_any_names_and_contents(tmp_path_factory: pytest.TempPathFactory, wanted: dict[bytes, bytes]) -> None:
    root = Node("dir")
    for name, content in wanted.items():
        graft(root, name, Node("file", content=content, size=len(content)))
    place = tmp_path_factory.mktemp("any") / "image"
    made = erofs.plan(root)
    with place.open("wb") as file:
        erofs.write(file.fileno(), root, made, UUID)
    files = Image(place).files()
    place.unlink()
    assert {path: inode.content for path, inode in files.items() if path} == wanted


def test_the_same_tree_makes_the_same_bytes(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for number in range(50):
        (top / f"{number}").write_bytes(b"%d" % number * 900)
    first, second = taken(top), taken(top)
    assert fingerprint(first) == fingerprint(second)
    written(first, tmp_path / "one"), written(second, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("change", ["vanish", "shrink", "grow", "replace", "rewrite", "link", "pipe", "parent"])
def test_a_file_that_changes_before_it_is_copied(tmp_path: Path, change: str) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    victim = top / "d/victim"
    victim.write_bytes(b"v" * 10_000)
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 10_000)
    root = taken(top)
    times = (victim.stat().st_atime_ns, victim.stat().st_mtime_ns)
    if change == "shrink":
        os.truncate(victim, 100)
    elif change == "grow":
        os.truncate(victim, 20_000)
    elif change == "rewrite":
        inode = victim.stat().st_ctime_ns
        while victim.stat().st_ctime_ns == inode:  # the clock of files ticks every few milliseconds
            victim.write_bytes(b"w" * 10_000)
            os.utime(victim, ns=times)
    elif change == "parent":
        (top / "d").rename(top / "old")
        (top / "d").symlink_to(tmp_path)
        secret.rename(tmp_path / "victim")
    else:
        victim.unlink()
        if change == "replace":
            secret.rename(victim)
        elif change == "link":
            victim.symlink_to(secret)
        elif change == "pipe":
            os.mkfifo(victim)
    with pytest.raises(erofs.ChangedError), (tmp_path / "image").open("wb") as file:
        erofs.write(file.fileno(), root, erofs.plan(root), UUID)
    assert b"ssss" not in (tmp_path / "image").read_bytes()


def test_a_target_that_may_not_grow(tmp_path: Path) -> None:
    """In a process of its own: the limit stays."""
    code = (
        "import sys, resource\n"
        "from cloche.images import erofs\n"
        "from cloche.images.tree import Node, graft\n"
        "root = Node('dir'); graft(root, b'x', Node('file', content=b'x' * 300000, size=300000))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "with open(sys.argv[1], 'wb') as file:\n"
        "    try: erofs.write(file.fileno(), root, erofs.plan(root), bytes(16))\n"
        "    except OSError as error: print(error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "image")], capture_output=True, text=True)
    assert done.stdout == f"{errno.EFBIG}\n", done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100000


def test_damaged_images_are_recognised(tmp_path: Path) -> None:
    image = tmp_path / "image"
    size = len(written(Node("dir"), image).data)
    assert erofs.check(str(image), size + 4096) is not None
    image.write_bytes(bytes(size))
    assert erofs.check(str(image), size) == "its superblock is damaged"
    image.write_bytes(b"")
    assert erofs.check(str(image), 0) is not None


@pytest.mark.slow
def test_a_hundred_thousand_files(tmp_path: Path) -> None:
    root = Node("dir")
    for number in range(100_000):
        graft(root, b"%d/%d" % (number % 97, number), Node("file", content=b"%d" % number, size=len(str(number))))
    files = written(root, tmp_path / "image").files()
    assert len(files) == 100_000 + 98
    assert files[b"%d/99999" % (99_999 % 97)].content == b"99999"
