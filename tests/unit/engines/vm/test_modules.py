"""Which modules the guest needs, told by the modules."""

from __future__ import annotations

import lzma

import pytest

from cloche.engines.vm import modules
from cloche.engines.vm.damaged import DamagedError
from tests.kernel_making import MODULES, ORDER, RELEASE, module

KNOWN = {name: module(name, needs) for name, needs in MODULES.items()}


def test_each_comes_behind_what_it_needs() -> None:
    assert modules.in_order(KNOWN, {"ext4"}) == ORDER


def test_what_is_built_in_is_neither_loaded_nor_missed() -> None:
    built = modules.built_in("kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio-mmio.ko\nodd\n")
    assert built == {"ext4", "virtio_mmio"}
    assert modules.in_order(KNOWN, built | {"virtio", "virtio_ring"}) == [
        "virtio_console", "virtio_blk", "overlay", "libcrc32c", "erofs"]  # fmt: skip


def test_what_is_missing_is_named() -> None:
    less = {name: KNOWN[name] for name in KNOWN if name not in ("libcrc32c", "overlay")}
    with pytest.raises(modules.MissingModulesError, match="ext4, libcrc32c, overlay") as caught:
        modules.in_order(less, set())
    assert caught.value.names == {"ext4", "libcrc32c", "overlay"}


VSOCK = {
    "vsock": "",
    "vmw_vsock_virtio_transport_common": "vsock",
    "vmw_vsock_virtio_transport": "virtio,virtio_ring,vsock,vmw_vsock_virtio_transport_common",
}


#: as in Debian's kernels
REDIRECT = {
    "nfnetlink": "", "nf_tables": "nfnetlink,libcrc32c", "nf_defrag_ipv4": "", "nf_defrag_ipv6": "",
    "nf_conntrack": "nf_defrag_ipv6,libcrc32c,nf_defrag_ipv4", "nf_nat": "nf_conntrack,libcrc32c",
    "nft_chain_nat": "nf_tables,nf_nat", "nft_redir": "nf_nat,nf_tables",
}  # fmt: skip


@pytest.mark.parametrize(("needs", "group"), [(VSOCK, modules.VSOCK), (REDIRECT, modules.REDIRECT)])
def test_a_group_comes_last_and_need_not_be_there(needs: dict[str, str], group: tuple[str, ...]) -> None:
    having = {**KNOWN, **{name: module(name, depends) for name, depends in needs.items()}}
    first = group[0]
    assert modules.in_order(having, {"ext4"}) == [*ORDER, *group]
    assert modules.in_order(having, {"ext4", first}) == [*ORDER, *group[1:]]
    assert modules.in_order(having, {"ext4", *group}) == ORDER
    for name in group:
        less = {known: content for known, content in having.items() if known != name}
        assert modules.in_order(less, {"ext4"}) == ORDER
    more = {**having, first: module(first, "diag"), "diag": module("diag", "")}
    assert modules.in_order(more, {"ext4"}) == ORDER


def test_the_log_of_refusals_comes_behind_what_it_is_a_log_of() -> None:
    refusals = {"nft_log": "nf_tables", "nfnetlink_log": "nfnetlink"}
    having = {**KNOWN, **{name: module(name, needs) for name, needs in {**REDIRECT, **refusals}.items()}}
    assert modules.in_order(having, {"ext4"}) == [*ORDER, *modules.REDIRECT, *modules.REFUSALS]
    alone = {known: content for known, content in having.items() if known not in modules.REDIRECT}
    assert modules.in_order(alone, {"ext4"}) == ORDER
    less = {known: content for known, content in having.items() if known != "nft_log"}
    assert modules.in_order(less, {"ext4"}) == [*ORDER, *modules.REDIRECT]


def test_a_kernel_tells_of_refusals_when_it_has_all_of_it_and_redirects() -> None:
    assert modules.tells_refusals([*modules.REDIRECT, *modules.REFUSALS], ())
    assert modules.tells_refusals([*modules.REDIRECT, "nft_log"], {"nfnetlink_log"})
    assert not modules.tells_refusals([*modules.REDIRECT, "nft_log"], ())
    assert not modules.tells_refusals(modules.REFUSALS, ())


def test_the_groups_do_not_need_each_other() -> None:
    vsock, redirect = ({name: module(name, needs) for name, needs in each.items()} for each in (VSOCK, REDIRECT))
    assert modules.in_order({**KNOWN, **vsock, **redirect}, {"ext4"}) == [*ORDER, *modules.REDIRECT, *modules.VSOCK]


def test_a_kernel_redirects_when_it_has_all_of_it() -> None:
    assert modules.redirects([*ORDER, *modules.REDIRECT], ()) and modules.redirects(ORDER, modules.REDIRECT)
    assert modules.redirects(modules.REDIRECT[1:], modules.REDIRECT[:1])
    assert not modules.redirects([*ORDER, *modules.VSOCK], {"ext4"})


def test_a_circle_and_a_name_that_is_none_are_refused() -> None:
    for needs in ("erofs", "../../x", "a\x1bb", "x" * 100):
        with pytest.raises(DamagedError):
            modules.in_order({"erofs": module("erofs", needs)}, (), ("erofs",))
    chain = {f"m{number}": module("m", f"m{number + 1}") for number in range(200)}
    with pytest.raises(DamagedError):
        modules.in_order(chain, (), ("m0",))


def test_names_of_files() -> None:
    assert modules.name_of("kernel/a/virtio-rng.ko.xz") == "virtio_rng"
    assert modules.name_of("x.ko") == modules.name_of("x.ko.zst") == modules.name_of("x.ko.gz") == "x"
    assert [modules.name_of(name) for name in ("x.o", ".ko", "a b.ko", "", "y" * 99 + ".ko")] == [None] * 5


def test_a_compressed_module_is_unpacked_and_another_file_refused() -> None:
    assert modules.unpacked(lzma.compress(KNOWN["erofs"])) == KNOWN["erofs"]
    with pytest.raises(DamagedError):
        modules.unpacked(b"no module")


def test_a_module_for_another_kernel_is_refused() -> None:
    modules.check_release(KNOWN, RELEASE, "x86_64")
    for wrong in (module("x", release="6.1.0-10"), module("x", machine=183)):
        with pytest.raises(DamagedError, match="module x"):
            modules.check_release({"x": wrong}, RELEASE, "x86_64")
