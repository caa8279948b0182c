"""The archive that a VM begins with."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.engines.vm import initramfs

MODULES = [("virtio", b"one"), ("erofs", b"three")]


def parse(archive: bytes) -> dict[str, tuple[list[int], bytes]]:
    """Name → (fields, content), as the kernel's unpacker reads newc."""
    at, found = 0, {}
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        name = archive[at + 110 : at + 109 + fields[11]].decode()
        assert archive[at + 109 + fields[11]] == 0
        begin = (at + 110 + fields[11] + 3) & ~3
        at = (begin + fields[6] + 3) & ~3
        if name == initramfs.END:
            assert not any(archive[at:])
            return found
        found[name] = (fields, archive[begin : begin + fields[6]])


def test_it_holds_what_the_guest_needs() -> None:
    found = parse(initramfs.build(b"guest", MODULES))
    assert found["init"][1] == b"guest" and found["init"][0][1] == 0o100755
    assert found["modules/order"][1] == b"virtio.ko\nerofs.ko\n"
    assert (found["modules/virtio.ko"][1], found["modules/erofs.ko"][1]) == (b"one", b"three")
    assert (found["dev/console"][0][1], found["dev/console"][0][9:11]) == (0o20600, [5, 1])
    assert (found["dev/null"][0][1], found["dev/null"][0][9:11]) == (0o20666, [1, 3])
    directories = {name for name, (fields, _) in found.items() if fields[1] == 0o40755}
    assert directories == {"dev", "proc", "sys", "lower", "disk", "root", "modules"}


@pytest.mark.parametrize(("group", "name"), [("vsock", "vsock"), ("redirect", "nft_redir")])
def test_modules_that_a_kernel_may_lack_are_in_lists_of_their_own(group: str, name: str) -> None:
    found = parse(initramfs.build(b"guest", [*MODULES, (name, b"four")]))
    assert found["modules/order"][1] == b"virtio.ko\nerofs.ko\n"
    assert found[f"modules/{group}"][1] == f"{name}.ko\n".encode()
    assert found[f"modules/{name}.ko"][1] == b"four"
    assert f"modules/{group}" not in parse(initramfs.build(b"guest", MODULES))


def test_the_same_input_gives_the_same_bytes() -> None:
    archive = initramfs.build(b"guest", MODULES)
    assert hashlib.sha256(archive).hexdigest() == "c8b4a25638062c3df0bd5e329f1d552ffe4b6b8fb2a0ff918adba0fa3d10e36b"
    assert len(archive) % initramfs.BLOCK_BYTES == 0
    assert initramfs.build(b"guest", MODULES) == archive
    assert all(fields[5] == fields[2] == fields[3] == 0 for fields, _ in parse(archive).values())


def test_a_directory_comes_before_what_is_in_it() -> None:
    names = list(parse(initramfs.build(b"", MODULES)))
    assert all(os.path.dirname(name) in ("", *names[:at]) for at, name in enumerate(names))


def test_inodes_are_different() -> None:
    inodes = [fields[0] for fields, _ in parse(initramfs.build(b"", MODULES)).values()]
    assert len(set(inodes)) == len(inodes)


@settings(deadline=None)
@given(st.binary(max_size=600), st.lists(st.binary(max_size=300), max_size=5))
def test_every_content_comes_back(guest, contents) -> None:
    modules = [(f"m{number}", content) for number, content in enumerate(contents)]
    found = parse(initramfs.build(guest, modules))
    assert found["init"][1] == guest
    assert [found[f"modules/{name}.ko"][1] for name, _ in modules] == contents


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not installed")
def test_cpio_lists_it() -> None:
    done = subprocess.run(["cpio", "-t"], input=initramfs.build(b"guest", MODULES), capture_output=True, check=True)
    assert done.stdout.decode().split() == sorted(parse(initramfs.build(b"guest", MODULES)))
