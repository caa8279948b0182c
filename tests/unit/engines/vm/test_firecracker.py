"""Firecracker's driver against a server that refuses whatever Firecracker would refuse."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloche.engines.vm import firecracker as driver
from cloche.engines.vm import firecracker_api, jailer
from cloche.engines.vm.firecracker_api import FirecrackerApi
from cloche.engines.vm.machine import Boot, Drive, Machine, kernel_words
from cloche.engines.vm.vmm import Captured, Seating, Vmm
from cloche.model.errors import EngineError, InvalidError, SandboxDeadError, UnavailableError
from cloche.model.limits import Limits
from tests.contract import bodies, firecracker

pytestmark = pytest.mark.anyio
SANDBOX = "sb_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def home() -> Iterator[Path]:
    """Short: it is part of the addresses of sockets."""
    path = Path(tempfile.mkdtemp(prefix="fc"))
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


def seating(home: Path, name: str = "run") -> Seating:
    (home / name).mkdir(mode=0o700, exist_ok=True)
    return Seating(sandbox_id=SANDBOX, run_dir=str(home / name))


@pytest.fixture
async def started(home: Path, machine: Machine) -> AsyncIterator[firecracker.Firecracker]:
    """Configured by the driver, and running."""
    async with firecracker.Firecracker(Path(seating(home).run_dir)) as process:
        vmm = driver.Firecracker("/usr/bin/firecracker")
        await vmm.seat(machine, seating(home))
        await vmm.boot(machine, seating(home))
        yield process


def test_the_driver_is_a_vmm() -> None:
    vmm: Vmm = driver.Firecracker("/usr/bin/firecracker")
    assert vmm.name == "firecracker" and vmm.abilities.captures and not vmm.abilities.partial_captures


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


async def test_nothing_of_the_host_is_in_the_state_of_a_machine(started: firecracker.Firecracker, home: Path) -> None:
    """A capture keeps the paths, and is restored in another directory."""
    assert str(home).encode() not in msgspec.json.encode(started.configuration)


async def test_pausing_and_resuming(started: firecracker.Firecracker, home: Path) -> None:
    vmm = driver.Firecracker("/usr/bin/firecracker")
    for _ in range(2):
        await vmm.pause(seating(home))
        assert started.state == "Paused"
    await vmm.resume(seating(home))
    assert started.state == "Running"


async def test_a_capture_needs_a_machine_that_stands_still(started: firecracker.Firecracker, home: Path) -> None:
    captured = Captured(state=str(home / "s"), memory=str(home / "m"))
    with pytest.raises(EngineError, match="not paused"):
        await driver.Firecracker("/usr/bin/firecracker").capture(seating(home), captured)
    assert not (home / "s").exists() and not list(Path(seating(home).run_dir).glob("captured*"))


async def captured_files(home: Path, vmm: driver.Firecracker, **options: bool) -> Captured:
    captured = Captured(state=str(home / "state"), memory=str(home / "memory"))
    await vmm.pause(seating(home))
    await vmm.capture(seating(home), captured, **options)
    return captured


async def test_a_capture_is_restored_elsewhere(started: firecracker.Firecracker, home: Path, machine: Machine) -> None:
    vmm = driver.Firecracker("/usr/bin/firecracker")
    captured = await captured_files(home, vmm)
    assert Path(captured.memory).stat().st_size == 128 << 20 and Path(captured.memory).stat().st_blocks < 1000
    assert Path(captured.memory).read_bytes()[1 << 20 :][:10] == b"everything"
    there = seating(home, "clone")
    async with firecracker.Firecracker(Path(there.run_dir)) as clone:
        await vmm.seat(machine, there)
        await vmm.restore(machine, there, captured, resume=False)
        assert clone.state == "Paused" and clone.configuration == started.configuration
        await vmm.resume(there)
        assert clone.state == "Running"
        assert clone.log == ["GET /version", "PUT /snapshot/load", "PATCH /vm"]


async def test_a_capture_of_what_changed(home: Path, machine: Machine) -> None:
    vmm = driver.Firecracker("/usr/bin/firecracker", track_changes=True)
    async with firecracker.Firecracker(Path(seating(home).run_dir)) as process:
        await vmm.seat(machine, seating(home))
        await vmm.boot(machine, seating(home))
        assert process.configuration.machine.track_dirty_pages
        captured = await captured_files(home, vmm, partial=True)
        assert Path(captured.memory).read_bytes()[1 << 20 :][:7] == b"changed"


async def test_changes_that_nobody_tracked_cannot_be_captured(started: firecracker.Firecracker, home: Path) -> None:
    with pytest.raises(UnavailableError):
        await captured_files(home, driver.Firecracker("/usr/bin/firecracker"), partial=True)
    await FirecrackerApi(Path(seating(home).run_dir) / "api.sock").pause()
    with pytest.raises(EngineError, match="dirty page"):
        await FirecrackerApi(Path(seating(home).run_dir) / "api.sock").create_snapshot("s", "m", partial=True)


async def test_a_damaged_capture_ends_firecracker_and_is_an_error(home: Path, machine: Machine) -> None:
    (home / "s").write_bytes(b"no state")
    (home / "m").write_bytes(b"")
    vmm = driver.Firecracker("/usr/bin/firecracker")
    async with firecracker.Firecracker(Path(seating(home).run_dir)) as process:
        await vmm.seat(machine, seating(home))
        with pytest.raises(EngineError, match="Failed to restore"):
            captured = Captured(state=str(home / "s"), memory=str(home / "m"))
            await vmm.restore(machine, seating(home), captured, resume=True)
        await process.ended
        with pytest.raises(SandboxDeadError):
            await vmm.pause(seating(home))


@pytest.mark.parametrize("planted", ["link", "fifo", "directory"])
async def test_what_firecracker_leaves_in_the_place_of_a_capture_is_not_taken(home: Path, planted: str) -> None:
    secret, place = home / "secret", home / "captured.memory"
    secret.write_text("of the host")
    {"link": lambda: place.symlink_to(secret), "fifo": lambda: os.mkfifo(place), "directory": place.mkdir}[planted]()
    with pytest.raises((EngineError, OSError)):
        driver._take(place, str(home / "kept"))
    assert not (home / "kept").exists()


async def test_a_version_that_is_too_old_is_refused(home: Path, machine: Machine) -> None:
    vmm = driver.Firecracker("/usr/bin/firecracker")
    async with firecracker.Firecracker(Path(seating(home).run_dir), version="1.7.0") as process:
        await vmm.seat(machine, seating(home))
        with pytest.raises(UnavailableError, match=r"1\.7\.0 is too old"):
            await vmm.boot(machine, seating(home))
        assert process.log == ["GET /version"]


@pytest.mark.parametrize("said", [None, {}, {"firecracker_version": 1}, {"firecracker_version": "one"}, "1.8.0"])
def test_what_is_no_version(said: Any) -> None:
    with pytest.raises(EngineError):
        firecracker_api.parse_version(said)


def test_versions_as_firecracker_writes_them() -> None:
    assert firecracker_api.parse_version({"firecracker_version": "1.17.0-dev"}) == (1, 17, 0)


async def test_it_waits_for_a_firecracker_that_starts(home: Path, machine: Machine) -> None:
    vmm = driver.Firecracker("/usr/bin/firecracker")
    await vmm.seat(machine, seating(home))
    booting = asyncio.ensure_future(vmm.boot(machine, seating(home)))
    await asyncio.sleep(0)
    async with firecracker.Firecracker(Path(seating(home).run_dir)) as process:
        await booting
        assert process.state == "Running"


async def test_a_firecracker_that_never_starts(home: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "START_SECONDS", 0)
    with pytest.raises(SandboxDeadError):
        await driver.Firecracker("/usr/bin/firecracker").boot(machine, seating(home))


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
    api = FirecrackerApi(Path(seating(home).run_dir) / "api.sock")
    for call in (
        api.start(),
        api.configure("entropy", {}),
        api.load_snapshot("s", "m", resume=True, track_changes=False),
    ):
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
            await fresh.load_snapshot("s", "m", resume=True, track_changes=False)
        assert await fresh.state() == "Not started"


async def test_the_channel_reaches_the_guest(started: firecracker.Firecracker, home: Path) -> None:
    channel = driver.Firecracker("/usr/bin/firecracker").channel(seating(home))
    one, two = await channel.open(), await channel.open()
    for stream in (two, one):
        await stream.write(b"hello")
        assert await stream.read(100) == b"hello"
    await channel.close()


async def test_a_guest_that_does_not_listen_yet(started: firecracker.Firecracker, home: Path) -> None:
    started.ports = frozenset()
    with pytest.raises(SandboxDeadError):
        await driver.Firecracker("/usr/bin/firecracker").channel(seating(home)).open()


def test_without_a_jail_it_starts_where_its_files_are(home: Path, machine: Machine) -> None:
    launch = driver.Firecracker("/usr/bin/firecracker").launch(machine, seating(home), incoming=False)
    assert launch.directory == seating(home).run_dir and launch.console_on_stdout
    assert launch.argv[:5] == ["/usr/bin/firecracker", "--id", SANDBOX.replace("_", "-"), "--api-sock", "api.sock"]


def test_it_emulates_nothing(home: Path, machine: Machine) -> None:
    emulated = msgspec.structs.replace(machine, accelerator="tcg")
    with pytest.raises(UnavailableError):
        driver.Firecracker("/usr/bin/firecracker").launch(emulated, seating(home), incoming=False)


def programs(home: Path, *names: str) -> None:
    for name in names:
        (home / name).write_text("#!/bin/sh\n")
        (home / name).chmod(0o755)


def test_an_ordinary_user_needs_no_jailer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert driver.installed(home, None) is None
    programs(home, "firecracker")
    assert driver.installed(home, None) is not None


def test_root_runs_firecracker_in_its_jailer_or_not_at_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert driver.installed(home, (70001, 70001)) is None
    programs(home, "firecracker")
    with pytest.raises(UnavailableError, match="jailer"):
        driver.installed(home, (70001, 70001))
    programs(home, "jailer")
    with pytest.raises(UnavailableError, match="jailer"):
        driver.installed(home, None)
    vmm = driver.installed(home / "jails", (70001, 70001))
    assert vmm is not None
    machine = Machine(vcpus=1, memory_mib=128, kernel="/k", initramfs="/i", command_line="")
    assert vmm.launch(machine, seating(home), incoming=False).argv[0] == str(home / "jailer")


def jailed(home: Path) -> driver.Firecracker:
    ids = {"uid": max(os.getuid(), 1), "gid": max(os.getgid(), 1)}
    jail = jailer.Jail(jailer="/usr/bin/jailer", firecracker="/usr/bin/firecracker", base=str(home / "jails"), **ids)
    return driver.Firecracker("/usr/bin/firecracker", jail)


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user, which only root can")
async def test_in_a_jail_files_are_shared_and_only_what_is_written_is_given_away(home: Path, machine: Machine) -> None:
    vmm = jailed(home)
    await vmm.seat(machine, seating(home))
    inside = vmm.directory(seating(home))
    assert (inside / "root").stat().st_ino == (home / "root.erofs").stat().st_ino
    assert (inside / "root").stat().st_uid == 0 and (inside / "scratch").stat().st_uid == 1
    async with firecracker.Firecracker(inside) as process:
        await vmm.boot(machine, seating(home))
        assert process.state == "Running"
    for _ in range(2):
        await vmm.unseat(seating(home))
    assert not inside.parent.exists() and (home / "root.erofs").read_bytes() == b"root.erofs"


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user, which only root can")
async def test_a_file_that_the_jail_cannot_read_is_named(home: Path, machine: Machine) -> None:
    (home / "root.erofs").chmod(0o600)
    with pytest.raises(EngineError, match=r"root\.erofs has to be readable"):
        await jailed(home).seat(machine, seating(home))


def test_the_jail_holds_the_memory_of_the_machine(home: Path, machine: Machine) -> None:
    launch = jailed(home).launch(machine, seating(home), incoming=True)
    assert launch.argv[0] == "/usr/bin/jailer" and f"memory.max={(128 + 64) << 20}" in launch.argv


async def test_kernel_words_that_are_too_long_never_leave(machine: Machine) -> None:
    with pytest.raises(InvalidError):
        msgspec.structs.replace(machine, command_line="x" * 3000)
