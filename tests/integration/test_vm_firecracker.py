"""The vm engine with Firecracker, where there is none: in its box runs a stand-in that passes everything on to the
contract server, and the "machine" is the real guest as a process of the test.

What this shows: which calls come, in which order, that each is one that Firecracker takes, that what it opens by name
is in its box and nothing else, and that the process is owned as QEMU is. It is no proof of isolation, nor that a kernel
boots or a snapshot can be restored: no machine runs here."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import hatch_build
from cloche.engines.bench import Bench, Sandbox, bench
from cloche.engines.launched import supervisor
from cloche.engines.vm import disks, kvm
from cloche.engines.vm.assets import Assets
from cloche.engines.vm.engine import VmEngine
from cloche.engines.vm.ground import Grounds
from cloche.model.errors import EngineError, UnavailableError
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec
from tests.contract.firecracker import FaultError
from tests.contract.outside import GUEST, PORT, Outside

pytestmark = pytest.mark.anyio
CONTRACT = Path(__file__).parents[1] / "contract" / "boxed" / "main.go"
BOOT = ["GET /version", "PUT /machine-config", "PUT /boot-source", "PUT /drives/root", "PUT /drives/disk", "PUT /vsock",
        "PUT /entropy", "PUT /actions"]  # fmt: skip
CLONED = ["GET /version", "PUT /snapshot/load", "POST /v1/wake"]
CAPTURED = ["POST /v1/freeze", "PATCH /vm", "PUT /snapshot/create", "PATCH /vm"]


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    if not GUEST.exists() or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("the guest is not built, or there is no /dev/kvm, which Firecracker opens")
    try:
        disks.mke2fs()
        go = hatch_build.go_command()
    except (UnavailableError, SystemExit) as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="cloche-fc-") as place:
        built = Path(place) / "firecracker"
        environment = hatch_build._go_environment(go, hatch_build.wanted_arch(), place)
        argv = [str(go), "build", "-o", str(built), str(CONTRACT)]
        subprocess.run(argv, cwd=hatch_build.ROOT / "guest", env=environment, check=True, timeout=110)
        yield built


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cloche-fc-home-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def spec(home: Path) -> SandboxSpec:
    (home / "root").mkdir()
    user = "root" if os.geteuid() == 0 else "user"
    limits = Limits(memory_mib=128, disk_mib=16)
    return SandboxSpec(image=str(home / "root"), user=user, workdir="/", limits=limits)


@pytest.fixture
async def machines(home: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Outside]]:
    """Every machine that is started, in turn. KVM is taken to work, and nobody boots the kernel."""
    for name in ("kernel", "initramfs"):
        (home / name).write_bytes(name.encode())
        (home / name).chmod(0o444)
    here = Assets(
        kernel=home / "kernel",
        initramfs=home / "initramfs",
        kernel_id="k",
        initramfs_id="i",
        release="6",
        architecture="",
        redirects=False,
        refusals=False,
    )
    made: list[Outside] = []
    launch = supervisor.launch

    async def launched(launcher: Path, plan: dict[str, Any], *more: Any) -> dict[str, Any]:
        made.append(await Outside(plan).__aenter__())
        return await launch(launcher, plan, *more)

    async def assets(self: Grounds) -> Assets:
        return here

    monkeypatch.setattr(supervisor, "launch", launched)
    monkeypatch.setattr(Grounds, "assets", assets)
    monkeypatch.setattr(kvm, "works", lambda home: True)
    for name, value in {"VMM": "firecracker", "FIRECRACKER": str(program), "VM_STANDBY": "0"}.items():
        monkeypatch.setenv(f"CLOCHE_{name}", value)
    yield made
    for machine in made:
        await machine.die()
    assert [wrong for machine in made for wrong in machine.wrong] == []


@pytest.fixture
async def boxes(home: Path, machines: list[Outside]) -> AsyncIterator[Bench]:
    async with bench(VmEngine, home) as made:
        yield made
    left = [path for name in ("run", "building", "standby") for path in (home / name).glob("*")]
    assert left == []


async def said(sandbox: Sandbox, *argv: str) -> bytes:
    return (await sandbox.exec(*argv)).stdout


async def test_a_sandbox_is_a_clone_of_a_machine_that_booted(
    boxes: Bench, machines: list[Outside], spec: SandboxSpec
) -> None:
    sandbox = await boxes.create(spec)
    assert await said(sandbox, "echo", "hello") == b"hello\n"
    template, clone = machines
    assert template.log == [
        *BOOT,
        "POST /v1/wake",
        "POST /v1/freeze",
        "GET /",
        "PATCH /vm",
        "PUT /snapshot/create",
        "PATCH /vm",
    ]
    assert clone.log == CLONED
    found = template.configuration
    assert found.boot is not None and f"cloche.vsock={PORT}" in (found.boot.boot_args or "").split()
    assert [drive.is_read_only for drive in found.drives] == [True, False]
    assert str(boxes.home).encode() not in (boxes.home / "vm/templates").joinpath(
        next(iter(os.listdir(boxes.home / "vm/templates"))), "devices").read_bytes()  # fmt: skip
    assert (await boxes.engine.status(sandbox.box)).status == "running"


async def test_a_fork_goes_on_from_what_was_captured(
    boxes: Bench, machines: list[Outside], spec: SandboxSpec, tmp_path: Path
) -> None:
    sandbox = await boxes.create(spec)
    machines[1].log.clear()
    manifest = await boxes.engine.capture(sandbox.box, str(tmp_path))
    assert machines[1].log == ["GET /", *CAPTURED, "POST /v1/thaw"]
    assert await said(sandbox, "echo", "on") == b"on\n"
    fork = boxes.plan(spec)
    await boxes.engine.restore(fork, str(tmp_path), manifest, forked=True)
    assert machines[2].log == CLONED
    # its memory is the file of the capture, and no copy of it
    assert os.path.samefile(machines[2].at("/machine/memory"), tmp_path / "pages")
    # what stands in for its guest is a new process, which knows no session
    assert await said(await boxes.enter(fork), "echo", "fork") == b"fork\n"


async def test_pausing_is_freezing_first(
    boxes: Bench, machines: list[Outside], spec: SandboxSpec, tmp_path: Path
) -> None:
    sandbox = await boxes.create(spec)
    machines[1].log.clear()
    await boxes.engine.pause(sandbox.box)
    assert machines[1].log == ["POST /v1/freeze", "PATCH /vm"] and machines[1].state == "Paused"
    assert (await boxes.engine.status(sandbox.box)).status == "paused"
    await boxes.engine.capture(sandbox.box, str(tmp_path))
    assert machines[1].state == "Paused"
    machines[1].log.clear()
    await boxes.engine.resume(sandbox.box)
    assert machines[1].log == ["PATCH /vm", "PUT /v1/clock", "POST /v1/thaw"]
    assert await said(sandbox, "echo", "on") == b"on\n"


async def test_another_node_finds_the_machine_whatever_it_chooses_for_new_ones(
    boxes: Bench, machines: list[Outside], spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await boxes.create(spec)
    monkeypatch.setenv("CLOCHE_VMM", "auto")
    other = VmEngine(boxes.home)
    assert (await other.status(sandbox.box)).status == "running"
    assert await said(await boxes.enter(sandbox.box, other), "echo", "again") == b"again\n"
    await other.close()


async def test_the_process_ends_with_its_box(boxes: Bench, machines: list[Outside], spec: SandboxSpec) -> None:
    sandbox = await boxes.create(spec, deadline=time.time() + 3600)
    await boxes.engine.set_deadline(sandbox.box, time.time())
    ended = await asyncio.wait_for(boxes.engine.wait(sandbox.box), 60)
    assert (ended.status, ended.reason) == ("exited", "expired")
    again = await boxes.create(spec)
    pid = int((supervisor.read_json(Path(again.box.run_dir, "supervisor.json")) or {})["init_pid"])
    os.kill(pid, 9)
    ended = await asyncio.wait_for(boxes.engine.wait(again.box), 60)
    assert (ended.status, ended.reason) == ("exited", "monitor_died")


async def test_a_sandbox_starts_again_with_its_disk(boxes: Bench, machines: list[Outside], spec: SandboxSpec) -> None:
    sandbox = await boxes.create(spec)
    await boxes.engine.stop(sandbox.box, keep_disk=True)
    await boxes.engine.start(sandbox.box)
    assert machines[-1].log == [*BOOT, "POST /v1/wake"]
    assert machines[-1].at("/machine/disk") == Path(sandbox.box.state_dir, "disk.img")


async def test_one_that_waits_becomes_a_sandbox(
    boxes: Bench, machines: list[Outside], spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOCHE_VM_STANDBY", "1")
    await boxes.create(spec)
    standbys = boxes.engine._standbys  # type: ignore[attr-defined]
    await asyncio.gather(*standbys._filling)
    assert len(machines) == 3
    second = await boxes.create(spec)
    assert await said(second, "echo", "second") == b"second\n"
    assert machines[2].log[:3] == CLONED and machines[2].log[-1] == "POST /v1/wake"


async def test_a_refusal_is_told_and_nothing_is_left(
    boxes: Bench, machines: list[Outside], spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(machine: Outside, content: bytes) -> None:
        raise FaultError("no such kernel")

    monkeypatch.setattr(Outside, "_boot", refuse)
    with pytest.raises(EngineError, match="no such kernel"):
        await boxes.create(spec)


async def test_doctor_says_that_it_is_unproven(boxes: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {check.id: check for check in await boxes.engine.check()}
    assert found["vm.vmm"].status == "degraded" and "unproven" in found["vm.vmm"].summary and "vm.qemu" not in found
    monkeypatch.setenv("CLOCHE_VMM", "auto")
    found = {check.id: check for check in await boxes.engine.check()}
    assert "vm.qemu" in found and found["vm.vmm"].summary.startswith("QEMU")
    monkeypatch.setenv("CLOCHE_VMM", "none")
    found = {check.id: check for check in await boxes.engine.check()}
    assert found["vm.vmm"].status == "missing"
    with pytest.raises(UnavailableError):
        boxes.plan()
