"""What Firecracker is told, against a server that refuses whatever Firecracker would refuse; and what is taken of what
it leaves."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloche.channel.vsock import VsockChannel
from cloche.engines.vm import firecracker as driver
from cloche.engines.vm import firecracker_api, firecracker_bundle, firecracker_plan, vmms
from cloche.engines.vm.firecracker_api import FirecrackerApi
from cloche.engines.vm.machine import Boot, Drive, Machine, kernel_words
from cloche.engines.vm.qemu import Qemu
from cloche.model.errors import EngineError, InvalidError, SandboxDeadError, UnavailableError
from cloche.model.limits import Limits
from tests.contract import bodies, firecracker

pytestmark = pytest.mark.anyio


@pytest.fixture
def home() -> Iterator[Path]:
    """Short: it is part of the addresses of sockets."""
    path = Path(tempfile.mkdtemp(prefix="fc"))
    (path / "fc").mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def machine(home: Path) -> Machine:
    for name in ("vmlinux", "initrd", "root.erofs", "scratch.ext4"):
        (home / name).write_bytes(name.encode())
    return Machine(
        vcpus=3,
        memory_mib=128,
        kernel=str(home / "vmlinux"),
        initramfs=str(home / "initrd"),
        command_line=kernel_words(Boot(vmm="firecracker"), Limits().resolved()),
        drives=(
            Drive(id="root", path=str(home / "root.erofs"), read_only=True, operations_per_second=700),
            Drive(id="scratch", path=str(home / "scratch.ext4"), bytes_per_second=1 << 20),
        ),
    )


def configuration(machine: Machine) -> list[tuple[str, dict[str, Any]]]:
    """As the engine has it, but for the one directory that is not there outside of a box."""
    found = firecracker_plan.configuration(machine)
    return [(name, firecracker_api.vsock("vsock.sock") if name == "vsock" else body) for name, body in found]


@pytest.fixture
async def started(home: Path, machine: Machine) -> AsyncIterator[firecracker.Firecracker]:
    async with firecracker.Firecracker(home / "fc") as process:
        await driver._boot(home, configuration(machine))
        yield process


async def test_a_boot_is_what_the_api_allows(started: firecracker.Firecracker) -> None:
    found = started.configuration
    assert started.state == "Running" and found.entropy
    assert (found.machine.vcpu_count, found.machine.mem_size_mib) == (3, 128)
    assert [drive.drive_id for drive in found.drives] == ["root", "scratch"]
    root, scratch = found.drives
    assert root.is_read_only and root.rate_limiter == bodies.RateLimiter(
        ops=bodies.TokenBucket(size=700, refill_time=1000)
    )
    assert not scratch.is_read_only and scratch.rate_limiter is not None and scratch.rate_limiter.ops is None
    assert not any(drive.is_root_device for drive in found.drives)


async def test_stopping_and_going_on(started: firecracker.Firecracker, home: Path) -> None:
    asked = driver.AskedFirecracker(home)
    for _ in range(2):
        await asked.stop()
        assert await asked.status() == "paused"
    await asked.go_on()
    assert await asked.status() == "running"


async def test_a_capture_needs_a_machine_that_stands_still(started: firecracker.Firecracker, home: Path) -> None:
    with pytest.raises(EngineError, match="not paused"):
        await driver.AskedFirecracker(home).save_devices(home / "devices")
    assert not (home / "devices").exists() and not list((home / "fc").glob("captured*"))


@pytest.mark.parametrize("planted", ["link", "fifo", "directory", "nothing", "empty", "large"])
def test_what_firecracker_leaves_in_the_place_of_a_capture_is_not_taken(home: Path, planted: str) -> None:
    secret, place = home / "secret", home / "captured.memory"
    secret.write_text("of the host")
    {
        "link": lambda: place.symlink_to(secret),
        "fifo": lambda: os.mkfifo(place),
        "directory": place.mkdir,
        "nothing": lambda: None,
        "empty": place.touch,
        "large": lambda: place.write_bytes(bytes(101)),
    }[planted]()
    with pytest.raises(EngineError):
        driver.take(place, home / "kept", 100)
    assert not (home / "kept").exists()


def test_holes_of_a_capture_stay_holes(home: Path) -> None:
    with (home / "memory").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"page")
    driver.take(home / "memory", home / "kept", 64 << 20)
    kept = (home / "kept").stat()
    assert kept.st_size == 64 << 20 and kept.st_blocks < 1000
    assert (home / "kept").read_bytes() == (home / "memory").read_bytes()


async def test_a_version_that_is_too_old_is_refused(home: Path, machine: Machine) -> None:
    async with firecracker.Firecracker(home / "fc", version="1.7.0") as process:
        with pytest.raises(UnavailableError, match=r"1\.7\.0 is too old"):
            await driver._boot(home, configuration(machine))
        assert process.log == ["GET /version"]


@pytest.mark.parametrize("said", [None, {}, {"firecracker_version": 1}, {"firecracker_version": "one"}, "1.8.0"])
def test_what_is_no_version(said: Any) -> None:
    with pytest.raises(EngineError):
        firecracker_api.parse_version(said)


def test_versions_as_firecracker_writes_them() -> None:
    assert firecracker_api.parse_version({"firecracker_version": "1.17.0-dev"}) == (1, 17, 0)
    assert firecracker_bundle.parse_version("Firecracker v1.16.1\n\nSupported snapshot") == (1, 16, 1)
    with pytest.raises(UnavailableError, match="too old"):
        firecracker_bundle.parse_version("Firecracker v1.7.9\n")
    with pytest.raises(EngineError):
        firecracker_bundle.parse_version("Flintlock v2.0.0\n")


async def test_it_waits_for_a_firecracker_that_starts(home: Path, machine: Machine) -> None:
    booting = asyncio.ensure_future(driver._boot(home, configuration(machine)))
    await asyncio.sleep(0)
    async with firecracker.Firecracker(home / "fc") as process:
        await booting
        assert process.state == "Running"


async def test_a_firecracker_that_never_starts_is_told_with_its_last_words(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "exit.json").write_text(json.dumps({"console": "no KVM\n"}))
    with pytest.raises(EngineError, match="no KVM"):
        await driver.answering(home)
    (home / "exit.json").unlink()
    monkeypatch.setattr(driver, "START_SECONDS", 0)
    with pytest.raises(EngineError, match="did not start"):
        await driver.answering(home)


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        ("machine-config", {"vcpu_count": 33, "mem_size_mib": 128}),
        ("machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "ht_enabled": False}),
        ("machine-config", {"vcpu_count": "1", "mem_size_mib": 128}),
        ("vsock", {"guest_cid": 2, "uds_path": "v"}),
        ("boot-source", {"kernel_image_path": "missing"}),
        ("drives/a-b", {"drive_id": "a-b", "path_on_host": "x", "is_root_device": False}),
        ("drives/a", {"drive_id": "b", "path_on_host": "x", "is_root_device": False}),
        ("network", {}),
    ],
)
async def test_the_contract_server_is_strict(home: Path, resource: str, body: dict[str, Any]) -> None:
    async with firecracker.Firecracker(home):
        with pytest.raises(EngineError):
            await FirecrackerApi(home / "api.sock").configure(resource, body)


async def test_the_contract_server_knows_the_order_of_calls(started: firecracker.Firecracker, home: Path) -> None:
    api = FirecrackerApi(home / "fc" / "api.sock")
    for call in (api.start(), api.configure("entropy", {}), api.load_snapshot("s", "m", resume=True)):
        with pytest.raises(EngineError, match="after starting"):
            await call
    async with firecracker.Firecracker(home):
        fresh = FirecrackerApi(home / "api.sock")
        with pytest.raises(EngineError, match="before starting"):
            await fresh.pause()
        with pytest.raises(EngineError, match="without kernel"):
            await fresh.start()
        await fresh.configure("entropy", {})
        with pytest.raises(EngineError, match="boot-specific"):
            await fresh.load_snapshot("s", "m", resume=True)
        assert await fresh.state() == "Not started"


async def test_a_damaged_capture_ends_firecracker_and_is_an_error(home: Path) -> None:
    (home / "fc/state").write_bytes(b"no state")
    (home / "fc/memory").write_bytes(b"")
    async with firecracker.Firecracker(home / "fc") as process:
        api = FirecrackerApi(home / "fc" / "api.sock")
        with pytest.raises(EngineError, match="Failed to restore"):
            await api.load_snapshot("state", "memory", resume=True)
        await process.ended
        with pytest.raises(SandboxDeadError):
            await api.pause()


async def test_the_channel_reaches_the_guest(started: firecracker.Firecracker, home: Path) -> None:
    channel = driver.Firecracker().channel(home, 0.0)
    one, two = await channel.open(), await channel.open()
    for stream in (two, one):
        await stream.write(b"hello")
        assert await stream.read(100) == b"hello"
    await channel.close()


async def test_a_guest_that_does_not_listen_yet_is_waited_for(started: firecracker.Firecracker, home: Path) -> None:
    ports, started.ports = started.ports, frozenset()
    with pytest.raises(SandboxDeadError):
        await driver.Firecracker().channel(home, 0.0).open()
    channel = driver.Firecracker().channel(home, 60.0)
    opening = asyncio.ensure_future(channel.open())
    await asyncio.sleep(0)
    started.ports = ports
    await opening
    # who has answered once is not waited for again
    started.ports = frozenset()
    with pytest.raises(SandboxDeadError):
        await channel.open()
    await channel.close()


async def test_a_channel_that_moves(started: firecracker.Firecracker, home: Path) -> None:
    channel = VsockChannel(home / "elsewhere", 1024)
    with pytest.raises(SandboxDeadError):
        await channel.open()
    channel.moved(driver.Firecracker().channel_path(home))
    await channel.open()
    await channel.close()


async def test_kernel_words_that_are_too_long_never_leave(machine: Machine) -> None:
    with pytest.raises(InvalidError):
        msgspec.structs.replace(machine, command_line="x" * 3000)


def test_it_is_used_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, name in {"": "qemu", "auto": "qemu", "qemu": "qemu", "firecracker": "firecracker"}.items():
        monkeypatch.setenv(vmms.VARIABLE, said)
        assert vmms.wanted() == name
    monkeypatch.delenv(vmms.VARIABLE)
    assert vmms.wanted() == "qemu"
    monkeypatch.setenv(vmms.VARIABLE, "vfkit")
    with pytest.raises(UnavailableError, match="vfkit"):
        vmms.wanted()
    assert isinstance(vmms.of({}), Qemu) and vmms.of({"vmm": "firecracker"}).name == "firecracker"


def static_program() -> bytes:
    """An ELF file without a section that names a loader."""
    names = b"\0.shstrtab\0"
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 1, 0)
    return head + struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, 128, len(names), 0, 0, 1, 0) + names


async def test_what_is_installed_is_copied_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(firecracker_bundle.VARIABLE, str(home / "firecracker"))
    with pytest.raises(UnavailableError, match="not installed"):
        await firecracker_bundle.bundle(home)
    (home / "firecracker").write_text("#!/bin/sh\n")
    with pytest.raises(UnavailableError, match="no program"):
        await firecracker_bundle.bundle(home)
    (home / "firecracker").write_bytes(static_program())
    monkeypatch.setattr(firecracker_bundle, "_said", lambda program: "Firecracker v1.9.2\n")
    made = await firecracker_bundle.bundle(home)
    assert made.vmm == "firecracker" and made.clones and made.version == (1, 9, 2)
    copy = Path(made.path, "firecracker")
    assert copy.read_bytes() == static_program() and copy.stat().st_mode & 0o777 == 0o555
    assert await firecracker_bundle.bundle(home) == made
    copy.unlink()
    assert await firecracker_bundle.bundle(home) == made and copy.exists()
