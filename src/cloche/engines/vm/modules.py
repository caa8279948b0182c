"""Which kernel modules the guest needs, and in which order they load. Pure: told by the modules themselves.

A package has no modules.dep (it is made when the package is installed), but each module names what it needs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence

from cloche.engines.vm import elf
from cloche.engines.vm.damaged import DamagedError
from cloche.engines.vm.decompress import inflate, is_compressed

#: the channel, the disks, and what the root is made of; each may be built into the kernel instead
WANTED = ("virtio_mmio", "virtio_console", "virtio_blk", "overlay", "erofs", "ext4")
#: the way to a guest whose VMM has a vsock in the place of the channel; it loads them when it is told to use that. A
#: kernel without them boots in every other VMM
VSOCK = ("vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport")
#: what makes connections to any address arrive at the guest (guest/internal/redirect). A kernel without it boots, and
#: only programs that know a proxy reach the door
REDIRECT = ("nfnetlink", "nf_tables", "nf_defrag_ipv4", "nf_defrag_ipv6", "nf_conntrack", "nf_nat", "nft_chain_nat",
            "nft_redir")  # fmt: skip
#: what tells the guest of the packets that are refused there; without it nobody hears of them
REFUSALS = ("nft_log", "nfnetlink_log")
#: groups that a kernel may lack; each is loaded by a list of its own
OPTIONAL = {"redirect": REDIRECT, "refusals": REFUSALS, "vsock": VSOCK}
#: what those needed in kernels that were looked at, so that one reading of a package is enough
USUAL = frozenset({*WANTED, *VSOCK, *REDIRECT, *REFUSALS, "virtio_ring", "virtio", "libcrc32c", "crc32c_generic",
                   "netfs", "lz4_decompress", "mbcache", "jbd2", "crc16"})  # fmt: skip
MAX_MODULE_BYTES = 64 << 20
MAX_MODULES = 64
_NAME = re.compile(r"[A-Za-z0-9_]{1,56}")
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


class MissingModulesError(DamagedError):
    """`names`: neither there nor built in."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(f"modules are missing: {', '.join(sorted(names))}")
        self.names = frozenset(names)


def name_of(path: str) -> str | None:
    """The module in a file, as the kernel calls it; None: the file is no module."""
    base = posixpath.basename(path)
    suffix = next((suffix for suffix in _SUFFIXES if base.endswith(suffix)), None)
    name = base[: -len(suffix)].replace("-", "_") if suffix else ""
    return name if _NAME.fullmatch(name) else None


def built_in(listing: str) -> frozenset[str]:
    """The names in a modules.builtin."""
    return frozenset(name for line in listing.splitlines() if (name := name_of(line.strip())))


def unpacked(content: bytes) -> bytes:
    """A module as it is loaded. Raises DamagedError."""
    module = inflate(content, MAX_MODULE_BYTES) if is_compressed(content[:8]) else content
    elf.machine(module)
    return module


def information(module: bytes) -> dict[str, str]:
    """What `modinfo` says, with the last of what is said twice."""
    lines = elf.section(module, b".modinfo").decode("utf-8", "replace").split("\0")
    return {key: value for key, is_pair, value in (line.partition("=") for line in lines) if is_pair}


def needs(module: bytes) -> list[str]:
    """The modules that have to be there before this one."""
    named = information(module).get("depends", "").replace("-", "_").split(",")
    return [name for name in named if name]


def in_order(modules: Mapping[str, bytes], built: Collection[str], wanted: Collection[str] = WANTED) -> list[str]:
    """Of `modules`, those that are needed, each behind what it needs. Raises MissingModulesError, DamagedError."""
    order: list[str] = []
    missing: set[str] = set()
    for name in wanted:
        _place(name, (modules, built), order, missing, ())
    if missing:
        raise MissingModulesError(missing)
    for group in OPTIONAL.values():
        order += _optional(modules, built, order, group)
    return order


def _optional(
    modules: Mapping[str, bytes], built: Collection[str], known: Sequence[str], group: Sequence[str]
) -> list[str]:
    """Of the group, what is to be loaded behind those that are known. None of it, when it needs more than itself:
    whatever else were loaded with it would cost all those who do not use it."""
    order, missing = list(known), set[str]()
    for name in group:
        _place(name, (modules, built), order, missing, ())
    found = order[len(known) :]
    return found if not missing and set(found) <= set(group) else []


def redirects(order: Collection[str], built: Collection[str]) -> bool:
    """Whether a kernel with these has all of REDIRECT."""
    return set(REDIRECT) <= {*order, *built}


def tells_refusals(order: Collection[str], built: Collection[str]) -> bool:
    """Whether a kernel with these has all of REFUSALS."""
    return redirects(order, built) and set(REFUSALS) <= {*order, *built}


def _place(
    name: str, known: tuple[Mapping[str, bytes], Collection[str]], order: list[str], missing: set[str],
    above: tuple[str, ...],
) -> None:  # fmt: skip
    modules, built = known
    if name in order or name in missing or name in built:
        return
    if not _NAME.fullmatch(name) or name in above or len(above) + len(order) >= MAX_MODULES:
        raise DamagedError("the modules need each other in a circle, or something without a name")
    if name not in modules:
        missing.add(name)
        return
    for need in needs(modules[name]):
        _place(need, known, order, missing, (*above, name))
    order.append(name)


def check_release(modules: Mapping[str, bytes], release: str, architecture: str) -> None:
    """Raises DamagedError for a module that this kernel would refuse."""
    for name, module in modules.items():
        made_for = information(module).get("vermagic", "").partition(" ")[0]
        if made_for != release or elf.machine(module) != elf.MACHINES.get(architecture):
            said = made_for[:80] or "of no version"
            raise DamagedError(f"module {name} is for Linux {said}, and the kernel is {release}")
