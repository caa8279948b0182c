"""From the kernel file that a distribution installs to the one that a VMM boots. Pure, for hostile bytes.

x86-64: a bzImage (Documentation/arch/x86/boot.rst) holds a compressed vmlinux, which QEMU starts by its PVH note.
arm64: an Image, as it is, compressed, or wrapped for EFI."""

from __future__ import annotations

import re
import struct

from cloche.engines.vm import elf
from cloche.engines.vm.damaged import DamagedError
from cloche.engines.vm.decompress import inflate, is_compressed

MAX_KERNEL_BYTES = 256 << 20
#: XEN_ELFNOTE_PHYS32_ENTRY: where a VMM may enter in 32-bit mode
PVH_NOTE = (b"Xen", 18)
ARM64_MAGIC = b"ARM\x64"
_BANNER = re.compile(rb"Linux version ([0-9][A-Za-z0-9._+~-]{0,63}) ")


def bootable(image: bytes, architecture: str) -> bytes:
    """vmlinux (x86_64) or Image (aarch64) of a kernel file in any of its usual forms. Raises DamagedError."""
    kernel = _unpacked(image)
    if architecture == "aarch64":
        if kernel[56:60] != ARM64_MAGIC:
            raise DamagedError("it is no kernel for arm64")
    else:
        _check_elf(kernel, architecture)
    return kernel


def release(kernel: bytes) -> str:
    """What `uname -r` will say in it. Raises DamagedError."""
    found = _BANNER.search(kernel)
    if not found:
        raise DamagedError("it does not say which version of Linux it is")
    return found[1].decode("ascii")


def _unpacked(image: bytes) -> bytes:
    if len(image) > MAX_KERNEL_BYTES:
        raise DamagedError("it is too large for a kernel")
    if image[0x202:0x206] == b"HdrS":
        payload = _payload(image)
        return payload if payload.startswith(elf.MAGIC) else inflate(payload, MAX_KERNEL_BYTES)
    if image[:2] == b"MZ" and image[4:8] == b"zimg":
        offset, size = struct.unpack_from("<II", image, 8) if len(image) >= 16 else (0, 0)
        return inflate(_inside(image, offset, size), MAX_KERNEL_BYTES)
    if is_compressed(image[:8]):
        return inflate(image, MAX_KERNEL_BYTES)
    return image


def _payload(image: bytes) -> bytes:
    """Of a bzImage: the offset is from the end of the real-mode code, whose size is given in sectors."""
    if len(image) < 0x250 or struct.unpack_from("<H", image, 0x206)[0] < 0x0208:
        raise DamagedError("it is a bzImage of a kernel before 2.6.26")
    code = (image[0x1F1] or 4) + 1
    offset, size = struct.unpack_from("<II", image, 0x248)
    return _inside(image, code * 512 + offset, size)


def _inside(image: bytes, offset: int, size: int) -> bytes:
    if not size or offset + size > len(image):
        raise DamagedError("it is a kernel that is cut off")
    return image[offset : offset + size]


def _check_elf(kernel: bytes, architecture: str) -> None:
    if elf.machine(kernel) != elf.MACHINES.get(architecture):
        raise DamagedError(f"it is no kernel for {architecture}")
    if not any((name, kind) == PVH_NOTE for name, kind, _ in elf.notes(kernel)):
        raise DamagedError("it has no PVH note (CONFIG_PVH), so no VMM can start it directly")
