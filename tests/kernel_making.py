"""Kernels, modules and packages small enough to be made by a test, of the same shape as real ones."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
from collections.abc import Mapping

RELEASE = "6.1.0-9-cloud-amd64"
PVH = (b"Xen\0", 18, bytes(8))
#: name → what it depends on, as in Debian's cloud kernel, where ext4 is built in
MODULES = {
    "virtio_ring": "", "virtio": "virtio_ring", "virtio_mmio": "virtio,virtio_ring",
    "virtio_console": "virtio,virtio_ring", "virtio_blk": "virtio,virtio_ring", "overlay": "", "libcrc32c": "",
    "erofs": "libcrc32c",
}  # fmt: skip
ORDER = ["virtio_ring", "virtio", "virtio_mmio", "virtio_console", "virtio_blk", "overlay", "libcrc32c", "erofs"]


def vmlinux(release: str = RELEASE, note: tuple[bytes, int, bytes] | None = PVH, machine: int = 62) -> bytes:
    """An ELF file with one note."""
    name, kind, description = note or (b"GNU\0", 1, b"")
    notes = struct.pack("<III", len(name), len(description), kind) + name + description
    head = _elf_head(machine, phoff=64, phnum=1)
    header = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    return head + header + notes + f"Linux version {release} (somebody@somewhere)\n".encode() + bytes(5000)


def module(name: str, depends: str = "", release: str = RELEASE, machine: int = 62) -> bytes:
    """An ELF file with a .modinfo."""
    info = f"license=GPL\0depends={depends}\0name={name}\0vermagic={release} SMP mod_unload \0".encode()
    names = b"\0.modinfo\0.shstrtab\0"
    at = 64 + len(info) + len(names)
    sections = [
        struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(info), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, 64 + len(info), len(names), 0, 0, 1, 0),
    ]
    return _elf_head(machine, shoff=at, shnum=3, shstrndx=2) + info + names + b"".join(sections)


def bzimage(payload: bytes, code_sectors: int = 2) -> bytes:
    """A bzImage around what the boot protocol calls its payload."""
    image = bytearray((code_sectors + 1) * 512)
    image[0x1F1] = code_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x020F)
    struct.pack_into("<II", image, 0x248, 100, len(payload))
    return bytes(image) + bytes(100) + payload + b"behind it"


def package_files(
    release: str = RELEASE, modules: Mapping[str, str] = MODULES, built: str = "ext4"
) -> dict[str, bytes]:
    """What a kernel package holds, as far as anybody looks."""
    base = f"./lib/modules/{release}"
    found = {f"./boot/vmlinuz-{release}": bzimage(gzip.compress(vmlinux(release)))}
    found |= {f"{base}/kernel/x/{name}.ko": module(name, needs, release) for name, needs in modules.items()}
    found[f"{base}/modules.builtin"] = "".join(f"kernel/fs/{name}.ko\n" for name in built.split()).encode()
    found[f"{base}/kernel/x/other.ko"] = b"nobody looks"
    return found


def tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def ar(members: Mapping[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, content in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        out += b"\n" * (len(content) % 2)
    return out


def deb(files: Mapping[str, bytes]) -> bytes:
    return ar({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": lzma.compress(tar(files))})


def _elf_head(machine: int, phoff: int = 0, phnum: int = 0, shoff: int = 0, shnum: int = 0, shstrndx: int = 0) -> bytes:
    fields = (2, machine, 1, 0, phoff, shoff, 0, 64, 56, phnum, 64, shnum, shstrndx)
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *fields)
