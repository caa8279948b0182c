"""From a distribution's kernel file to one that boots."""

from __future__ import annotations

import gzip
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.engines.vm import elf, kernel
from cloche.engines.vm.damaged import DamagedError
from tests.kernel_making import PVH, RELEASE, bzimage, vmlinux
from tests.unit.engines.vm.test_decompress import PACKERS, legacy


@pytest.mark.parametrize("name", PACKERS)
def test_a_bzimage_gives_its_vmlinux(name) -> None:
    image = bzimage(PACKERS[name](vmlinux()))
    assert kernel.bootable(image, "x86_64") == vmlinux()
    assert kernel.release(vmlinux()) == RELEASE


def test_setup_sectors_of_0_mean_4() -> None:
    image = bytearray(bzimage(gzip.compress(vmlinux()), code_sectors=4))
    image[0x1F1] = 0
    assert kernel.bootable(bytes(image), "x86_64") == vmlinux()


def test_a_vmlinux_is_taken_as_it_is_and_compressed() -> None:
    assert kernel.bootable(vmlinux(), "x86_64") == vmlinux()
    assert kernel.bootable(legacy(vmlinux()), "x86_64") == vmlinux()


def test_a_kernel_without_the_note_is_refused_with_the_reason() -> None:
    for note in (None, (b"Xen\0", 17, b""), (b"GNU\0", 18, b"")):
        with pytest.raises(DamagedError, match="CONFIG_PVH"):
            kernel.bootable(vmlinux(note=note), "x86_64")


def test_another_machine_is_refused() -> None:
    with pytest.raises(DamagedError, match="x86_64"):
        kernel.bootable(vmlinux(machine=183), "x86_64")
    with pytest.raises(DamagedError, match="arm64"):
        kernel.bootable(vmlinux(), "aarch64")


def test_arm64_images() -> None:
    image = bytes(56) + b"ARM\x64" + b"Linux version 6.12.1 (x)" + bytes(100)
    packed = gzip.compress(image)
    zboot = b"MZ\0\0zimg" + struct.pack("<II", 64, len(packed)) + bytes(48) + packed
    for form in (image, packed, zboot):
        assert kernel.bootable(form, "aarch64") == image
    with pytest.raises(DamagedError, match="cut off"):
        kernel.bootable(zboot[:-1], "aarch64")


@pytest.mark.parametrize("offset", [0x248, 0x24C])
def test_a_payload_outside_of_the_image_is_refused(offset) -> None:
    image = bytearray(bzimage(gzip.compress(vmlinux())))
    struct.pack_into("<I", image, offset, 0xFFFFFFF0)
    with pytest.raises(DamagedError, match="cut off"):
        kernel.bootable(bytes(image), "x86_64")


def test_an_old_bzimage_and_a_bomb_are_refused(monkeypatch) -> None:
    image = bytearray(bzimage(gzip.compress(vmlinux())))
    struct.pack_into("<H", image, 0x206, 0x0207)
    with pytest.raises(DamagedError, match=r"2\.6\.26"):
        kernel.bootable(bytes(image), "x86_64")
    monkeypatch.setattr(kernel, "MAX_KERNEL_BYTES", 4000)
    with pytest.raises(DamagedError, match="larger"):
        kernel.bootable(bzimage(gzip.compress(vmlinux())), "x86_64")


@pytest.mark.parametrize(
    "text", [b"", b"Linux version \x1b[31m (x", b"Linux version " + b"9" * 80 + b" (", b"Linux 6 "]
)
def test_a_release_is_plain_text(text) -> None:
    with pytest.raises(DamagedError, match="which version"):
        kernel.release(text)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_elf_is_read_without_harm(data) -> None:
    image = bytearray(vmlinux()[:300])
    for _ in range(data.draw(st.integers(1, 8))):
        image[data.draw(st.integers(0, 299))] = data.draw(st.integers(0, 255))
    for read in (lambda: kernel.bootable(bytes(image), "x86_64"), lambda: elf.section(bytes(image), b".modinfo"),
                 lambda: list(elf.notes(bytes(image)))):  # fmt: skip
        try:
            read()
        except DamagedError:
            pass


@settings(deadline=None)
@given(st.binary(max_size=1500))
def test_noise_is_refused(noise) -> None:
    for image in (noise, b"\x7fELF\x02\x01" + noise, bzimage(noise), b"MZ\0\0zimg" + noise):
        with pytest.raises(DamagedError):
            kernel.bootable(image, "x86_64")


def test_pvh_is_found_behind_other_notes() -> None:
    other = struct.pack("<III", 4, 3, 1) + b"GNU\0" + b"abc\0"
    pvh = struct.pack("<III", len(PVH[0]), len(PVH[2]), PVH[1]) + PVH[0] + PVH[2]
    head = bytearray(vmlinux()[:120])
    struct.pack_into("<IIQQQQ", head, 64, 4, 4, 120, 0, 0, len(other + pvh))
    assert kernel.bootable(bytes(head) + other + pvh, "x86_64")
