"""The set-up as a whole, with a mirror on the loopback that behaves as badly as a mirror can."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from cloche.engines.base import Progress
from cloche.engines.vm import assets, kernel_keeping, setup, setup_options
from cloche.engines.vm.setup import Ground
from cloche.model.errors import ClocheError, EngineError, InvalidError, NoSpaceError, UnavailableError
from tests import kernel_making
from tests.kernel_making import ORDER, RELEASE, deb, module, package_files, vmlinux
from tests.package_mirror import Mirror, head

SetUp = Callable[..., list[Progress]]
POINTS = ["found", "downloaded", "unpacked", "written", "kept", "kernel_there", "pointed"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "guest").write_bytes(b"guest")
    return tmp_path / "home"


@pytest.fixture
def set_up(home: Path, ground: Ground) -> SetUp:
    def run(on: Ground = ground, **options: str) -> list[Progress]:
        said: list[Progress] = []
        asyncio.run(setup.setup(home, home.with_name("guest"), options, said.append, on))
        return said

    return run


def found(home: Path) -> assets.Assets:
    got = assets.find(home)
    assert got is not None
    return got


def left(home: Path) -> set[str]:
    return {path.name for path in (home / "vm").iterdir() if not path.name.startswith(".")}


def test_from_nothing_to_a_kernel_and_an_initramfs(home: Path, set_up: SetUp, mirror: Mirror) -> None:
    said = set_up()
    got = found(home)
    assert (got.release, got.kernel.read_bytes()) == (RELEASE, vmlinux())
    assert [path.stem for path in sorted((got.kernel.parent / "modules").iterdir())] == sorted(ORDER)
    assert assets.read_pointer(home).modules == ORDER  # type: ignore[union-attr]
    assert assets.verify(home) == []
    assert left(home) == {"kernels", "initramfs", "assets.json", "unfinished"}
    assert [step.step for step in said if step.step != "qemu"][-4:] == ["package", "unpack", "kernel", "initramfs"]
    assert [path for path, _ in mirror.asked] == [mirror.in_release, mirror.packages, mirror.deb]
    description = assets.read_description(got.kernel.parent, got.kernel_id)
    assert description is not None and description.source.package == f"linux-image-{RELEASE}"


def test_the_second_time_asks_nobody(home: Path, set_up: SetUp, mirror: Mirror) -> None:
    set_up()
    before = found(home)
    mirror.asked.clear()
    said = set_up()
    assert mirror.asked == [] and found(home) == before
    assert any("here already" in step.summary for step in said)


def test_an_update_takes_what_is_newer_and_nothing_when_nothing_is(home: Path, set_up: SetUp, mirror: Mirror) -> None:
    set_up()
    before = found(home)
    mirror.asked.clear()
    assert any("newest" in step.summary for step in set_up(update="1"))
    assert mirror.deb not in [path for path, _ in mirror.asked] and found(home) == before
    mirror.publish("6.1.0-10-cloud-amd64", "6.1.10-1")
    set_up()
    assert found(home) == before
    set_up(update="1")
    assert found(home).release == "6.1.0-10-cloud-amd64" and before.kernel.exists()


@pytest.mark.parametrize("fewer", ["redirects", "refusals"])
def test_a_kernel_of_which_fewer_modules_were_taken_is_taken_again(
    home: Path, set_up: SetUp, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, fewer: str
) -> None:
    keep = kernel_keeping.keep
    monkeypatch.setattr(kernel_keeping, "keep", lambda home, unpacked, *rest: keep(
        home, unpacked._replace(**{fewer: None}), *rest))  # fmt: skip
    set_up()
    before = found(home)
    assert getattr(before, fewer) is None
    monkeypatch.undo()
    set_up()
    assert getattr(found(home), fewer) is False and found(home).kernel_id != before.kernel_id
    mirror.asked.clear()
    set_up()
    assert mirror.asked == []


def test_an_interrupted_download_is_gone_on_with(home: Path, set_up: SetUp, mirror: Mirror, ground: Ground) -> None:
    whole = mirror.files[mirror.deb]

    def cut(request) -> bool:
        head(request, len(whole))
        request.wfile.write(whole[:1000])
        request.close_connection = True
        mirror.behave[mirror.deb] = stalled
        return True

    def stalled(request) -> bool:
        head(request, len(whole) - 1000, 206, f"bytes 1000-{len(whole) - 1}/{len(whole)}")
        mirror.released.wait(30)
        return True

    mirror.behave[mirror.deb] = cut
    with pytest.raises(UnavailableError, match="cannot be fetched"):
        set_up(msgspec.structs.replace(ground, silence_seconds=0.05))
    assert assets.find(home) is None
    mirror.behave.clear()
    mirror.asked.clear()
    set_up()
    # the index came whole the first time, and is not fetched again
    assert mirror.asked == [(mirror.in_release, ""), (mirror.deb, "bytes=1000-")]
    assert found(home).release == RELEASE


@pytest.mark.parametrize("point", POINTS)
def test_killed_between_any_two_steps_it_goes_on(home: Path, set_up: SetUp, ground: Ground, point: str) -> None:
    reached: list[str] = []

    def die(now: str) -> None:
        reached.append(now)
        if now == point:
            raise OSError("killed")

    with pytest.raises(EngineError, match="killed"):
        set_up(msgspec.structs.replace(ground, reached=die))
    assert reached == POINTS[: POINTS.index(point) + 1]
    (home / "vm/unfinished/half").mkdir(parents=True, exist_ok=True)
    set_up()
    assert assets.verify(home) == [] and found(home).release == RELEASE
    assert left(home) <= {"kernels", "initramfs", "assets.json", "unfinished"}
    assert not (home / "vm/unfinished/half").exists()
    assert len(list((home / "vm/kernels").iterdir())) == 1


def test_a_wrong_signature_is_refused(home: Path, set_up: SetUp, mirror: Mirror) -> None:
    signed = mirror.files[mirror.in_release]
    for wrong in (signed.replace(b"Suite: stable", b"Suite: stably"), b"Suite: stable\n", b"", b"SHA256: x\n" + signed):
        mirror.files[mirror.in_release] = wrong
        with pytest.raises(UnavailableError, match="not to be trusted"):
            set_up()
        assert {path for path, _ in mirror.asked} == {mirror.in_release}
    assert assets.find(home) is None


def test_a_stale_mirror_is_refused(set_up: SetUp, mirror: Mirror) -> None:
    mirror.publish(valid=timedelta(days=-1))
    with pytest.raises(UnavailableError, match="valid until"):
        set_up()


def test_a_wrong_index_and_a_wrong_package_are_refused(home: Path, set_up: SetUp, mirror: Mirror) -> None:
    for path in (mirror.packages, mirror.deb):
        right = mirror.files[path]
        mirror.files[path] = right[:-1] + b"!"
        with pytest.raises(UnavailableError, match="signed index names"):
            set_up()
        mirror.files[path] = right[:-100]
        with pytest.raises(UnavailableError, match="cannot be fetched"):
            set_up()
        mirror.files[path] = right
    assert assets.find(home) is None
    set_up()


def test_a_mirror_without_hashed_paths_gives_the_plain_one(set_up: SetUp, mirror: Mirror) -> None:
    del mirror.files[mirror.packages]
    set_up()


def test_what_would_be_too_large_is_not_fetched(set_up: SetUp, mirror: Mirror) -> None:
    huge = 600 << 20
    mirror.index(_packages(mirror, huge))
    with pytest.raises(UnavailableError, match="larger than it may be"):
        set_up()
    assert mirror.deb not in [path for path, _ in mirror.asked]
    mirror.release(f"Suite: stable\nSHA256:\n {'0' * 64} {huge} main/binary-amd64/Packages.xz\n")
    with pytest.raises(UnavailableError, match="larger than it may be"):
        set_up()


def _packages(mirror: Mirror, size: int) -> str:
    return (
        f"Package: linux-image-cloud-amd64\nVersion: 9\nDepends: linux-image-{RELEASE} (= 9)\nFilename: x\nSize: 1\n"
        f"SHA256: {'0' * 64}\n\nPackage: linux-image-{RELEASE}\nVersion: 9\nFilename: {mirror.deb[1:]}\n"
        f"Size: {size}\nSHA256: {'0' * 64}\n"
    )


@pytest.mark.parametrize(
    "package",
    [
        b"no package", deb({}), deb({f"./boot/vmlinuz-{RELEASE}": b"odd"}),
        deb({f"./boot/vmlinuz-{RELEASE}": kernel_making.bzimage(b"odd")}),
        deb({f"./boot/vmlinuz-{RELEASE}": vmlinux(note=None)}),
        deb(package_files(modules={"erofs": ""})), deb(package_files(built="")),
        deb(package_files() | {f"./lib/modules/{RELEASE}/kernel/x/erofs.ko": module("erofs", release="5.4")}),
        deb(package_files() | {f"./lib/modules/{RELEASE}/kernel/x/erofs.ko": b"odd"}),
    ],
)  # fmt: skip
def test_a_package_without_a_kernel_that_boots_is_refused(home: Path, set_up: SetUp, mirror: Mirror, package) -> None:
    mirror.publish(package=package)
    with pytest.raises(UnavailableError, match="no kernel that can be booted"):
        set_up()
    assert assets.find(home) is None


def test_a_kernel_whose_modules_need_more_than_usual(home: Path, set_up: SetUp, mirror: Mirror) -> None:
    more = {**kernel_making.MODULES, "erofs": "libcrc32c,unheard_of", "unheard_of": "more_of_it", "more_of_it": ""}
    mirror.publish(package=deb(package_files(modules=more)))
    set_up()
    assert assets.read_pointer(home).modules[-3:] == ["more_of_it", "unheard_of", "erofs"]  # type: ignore[union-attr]


def test_a_suite_that_apt_would_not_use_counts_only_when_it_is_named(set_up: SetUp, mirror: Mirror) -> None:
    mirror.publish(fields="NotAutomatic: yes\n")
    with pytest.raises(UnavailableError, match="no linux-image-cloud-amd64 in stable"):
        set_up()
    set_up(suite="stable")


def test_a_source_that_fails_does_not_spoil_the_others(home: Path, set_up: SetUp, ground: Ground, address: str) -> None:
    sources = ground.root / "etc/apt/sources.list"
    sources.write_text(f"deb [signed-by=/trusted.gpg] {address} absent main\n")
    said = set_up()
    assert found(home).release == RELEASE
    assert any("passed over" in step.summary and "404" in step.summary for step in said)


def test_the_newest_of_several_sources_is_taken(home: Path, set_up: SetUp, mirror: Mirror, ground: Ground) -> None:
    mirror.publish("6.1.0-10-cloud-amd64", "6.1.10-1")
    newer = dict(mirror.files)
    mirror.publish("6.1.0-9-cloud-amd64", "6.1.9-1")
    mirror.files |= {f"/other{path}": content for path, content in newer.items()}
    text = (ground.root / "etc/apt/sources.list.d/it.sources").read_text()
    address = text.split("URIs: ")[1].split()[0]
    (ground.root / "etc/apt/sources.list.d/z.sources").write_text(text.replace(address, f"{address}/other"))
    set_up()
    assert found(home).release == "6.1.0-10-cloud-amd64"


def test_a_mirror_and_a_keyring_of_ones_own(set_up: SetUp, ground: Ground, address: str, signing) -> None:
    bare = msgspec.structs.replace(ground, root=ground.root.with_name("bare"))
    with pytest.raises(UnavailableError, match="no package sources") as caught:
        set_up(bare)
    assert "--mirror URL" in str(caught.value.remedy)
    with pytest.raises(InvalidError) as invalid:
        set_up(bare, mirror=address)
    assert invalid.value.remedy == "add --suite NAME"
    with pytest.raises(UnavailableError, match="no keyring"):
        set_up(bare, mirror=address, suite="stable")
    set_up(bare, mirror=f"{address}/", suite="stable", keyring=str(signing.keyring))


def test_a_kernel_of_ones_own(home: Path, tmp_path: Path, set_up: SetUp, mirror: Mirror) -> None:
    kernel = tmp_path / "bzImage"
    kernel.write_bytes(kernel_making.bzimage(vmlinux("6.9.1-own")))
    set_up(kernel=str(kernel))
    assert found(home).release == "6.9.1-own" and assets.read_pointer(home).modules == []  # type: ignore[union-attr]
    modules = tmp_path / "modules"
    (modules / "kernel/a").mkdir(parents=True)
    for name, needs in kernel_making.MODULES.items():
        (modules / f"kernel/a/{name}.ko").write_bytes(module(name, needs, "6.9.1-own"))
    (modules / "modules.builtin").write_text("kernel/fs/ext4.ko\n")
    set_up(kernel=str(kernel), modules=str(modules))
    assert assets.read_pointer(home).modules == ORDER  # type: ignore[union-attr]
    assert mirror.asked == []
    set_up()
    assert found(home).release == "6.9.1-own"


def test_a_kernel_that_is_none_is_refused_by_name(tmp_path: Path, set_up: SetUp) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("no kernel")
    for name in ("fifo", "text", "none", ""):
        with pytest.raises(InvalidError) as caught:
            set_up(kernel=str(tmp_path / name))
        assert caught.value.details["field"] == "kernel"
    (tmp_path / "vmlinux").write_bytes(vmlinux())
    for name in ("none", "text", ""):
        with pytest.raises(InvalidError) as caught:
            set_up(kernel=str(tmp_path / "vmlinux"), modules=str(tmp_path / name))
        assert caught.value.details["field"] == "modules"


def test_verify_reads_everything_and_mends_it(home: Path, set_up: SetUp) -> None:
    set_up()
    before = found(home)
    assert "every file is as it was made" in [step.summary for step in set_up(verify="1")]
    stamp = before.kernel.stat()
    before.kernel.chmod(0o600)
    before.kernel.write_bytes(bytes(stamp.st_size))
    os.utime(before.kernel, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert assets.find(home) is not None
    assert "vmlinux is missing or was changed" in [step.summary for step in set_up(verify="1")]
    assert found(home) == before and before.kernel.read_bytes() == vmlinux()
    before.initramfs.chmod(0o600)
    before.initramfs.write_bytes(b"x")
    set_up(verify="1")
    assert assets.verify(home) == [] and assets.find(home) is not None


def test_two_at_once_fetch_once(home: Path, ground: Ground, mirror: Mirror) -> None:
    said: list[list[Progress]] = [[], []]

    async def both() -> None:
        guest = home.with_name("guest")
        await asyncio.gather(*(setup.setup(home, guest, {}, each.append, ground) for each in said))

    asyncio.run(both())
    assert [path for path, _ in mirror.asked].count(mirror.deb) == 1
    steps = [{step.step for step in each} for each in said]
    assert "wait" in steps[0] | steps[1] and any("kernel" in each and "package" not in each for each in steps)


def test_cancelled_it_ends_and_keeps_what_has_come(home: Path, set_up: SetUp, ground: Ground, mirror: Mirror) -> None:
    whole = mirror.files[mirror.deb]

    def stalled(request) -> bool:
        head(request, len(whole))
        request.wfile.write(whole[:1000])
        request.wfile.flush()
        mirror.released.wait(30)
        request.close_connection = True
        return True

    async def cancelled() -> None:
        running = asyncio.ensure_future(setup.setup(home, home.with_name("guest"), {}, lambda step: None, ground))
        part = home / "vm/downloads"
        while not any(path.stat().st_size == 1000 for path in part.glob("*.deb.part")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    mirror.behave[mirror.deb] = stalled
    asyncio.run(cancelled())
    mirror.behave.clear()
    mirror.released.set()
    set_up()
    assert (mirror.deb, "bytes=1000-") in mirror.asked and found(home).release == RELEASE


def test_a_disk_without_room_is_said(home: Path, ground: Ground, set_up: SetUp) -> None:
    def full(point: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(home))

    with pytest.raises(NoSpaceError):
        set_up(msgspec.structs.replace(ground, reached=full))
    (home / "file").write_text("")
    with pytest.raises(ClocheError):
        asyncio.run(setup.setup(home / "file", home, {}, lambda step: None, ground))


@pytest.mark.parametrize(
    "options",
    [
        {"odd": "1"}, {"verify": "yes"}, {"kernel": "relative"}, {"kernel": "/a\0b"}, {"modules": "/m"},
        {"kernel": "/k", "mirror": "http://x.example"}, {"mirror": "ftp://x.example"}, {"mirror": "x"},
        {"suite": "../x"}, {"suite": ""}, {"keyring": "k"},
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant(options: dict[str, str]) -> None:
    with pytest.raises(InvalidError):
        setup_options.check(options)


def test_a_machine_that_no_kernel_is_made_for(set_up: SetUp, ground: Ground) -> None:
    with pytest.raises(UnavailableError, match="riscv64"):
        set_up(msgspec.structs.replace(ground, architecture="riscv64"))
