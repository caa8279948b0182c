"""vfkit's driver against a parser and a server that refuse whatever vfkit would refuse."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloche.engines.vm import vfkit as driver
from cloche.engines.vm.machine import Boot, Drive, Machine, kernel_words
from cloche.engines.vm.vfkit import Vfkit
from cloche.engines.vm.vmm import Captured, Seating, Vmm
from cloche.model.errors import EngineError, InvalidError, SandboxDeadError, UnavailableError
from cloche.model.limits import Limits
from tests.contract import vfkit

pytestmark = pytest.mark.anyio
WORDS = kernel_words(Boot(vmm="vfkit", accelerator="hvf", architecture="aarch64"), Limits().resolved())
NOWHERE = Seating(sandbox_id="sb_1", run_dir="/h/run")


def machine(**changes: Any) -> Machine:
    settings: dict[str, Any] = {
        "vcpus": 2,
        "memory_mib": 512,
        "kernel": "/h/Image with spaces",
        "initramfs": "/h/initrd",
        "command_line": WORDS,
        "drives": (Drive(id="root", path="/h/root"), Drive(id="disk", path="/h/disk")),
        "accelerator": "hvf",
        "architecture": "aarch64",
    }
    return Machine(**{**settings, **changes})


@pytest.fixture
def seating() -> Iterator[Seating]:
    """Short: it is part of the addresses of sockets."""
    path = Path(tempfile.mkdtemp(prefix="vf"))
    yield Seating(sandbox_id="sb_1", run_dir=str(path))
    shutil.rmtree(path)


def server(seating: Seating, state: str = "Running") -> vfkit.Vfkit:
    return vfkit.Vfkit(Path(seating.run_dir) / driver.API_SOCKET, state)


def launched(described: Machine, seating: Seating = NOWHERE) -> vfkit.Parsed:
    launch = Vfkit("/opt/vfkit").launch(described, seating, incoming=False)
    assert launch.argv[0] == "/opt/vfkit"
    return vfkit.parse(launch.argv[1:])


def test_the_driver_is_a_vmm_that_says_what_it_cannot() -> None:
    vmm: Vmm = Vfkit("/opt/vfkit")
    assert vmm.abilities.pause
    assert not (vmm.abilities.captures or vmm.abilities.drive_rates or vmm.abilities.read_only_drives)


def test_vfkit_takes_the_command_line() -> None:
    parsed = launched(machine())
    assert (parsed.cpus, parsed.memory_mib, parsed.restful_path) == (2, 512, "/h/run/vfkit.sock")
    assert parsed.bootloader == {"kernel": "/h/Image with spaces", "initrd": "/h/initrd", "cmdline": WORDS}
    assert [kind for kind, _ in parsed.devices] == [
        "virtio-blk",
        "virtio-blk",
        "virtio-vsock",
        "virtio-serial",
        "virtio-rng",
    ]
    assert [options["path"] for kind, options in parsed.devices if kind == "virtio-blk"] == ["/h/root", "/h/disk"]


def test_the_host_connects_to_the_guest() -> None:
    (options,) = [options for kind, options in launched(machine()).devices if kind == "virtio-vsock"]
    assert options == {"port": "1024", "socketURL": "/h/run/channel.sock", "connect": ""}


def test_commas_in_the_kernel_words_are_the_kernels() -> None:
    assert launched(machine(command_line="console=hvc0,115200 a=b,c=d")).bootloader["cmdline"].endswith("a=b,c=d")


@pytest.mark.parametrize("path", ["/h/a,b", '/h/a"b', "relative", "/h/a\nb"])
def test_a_path_that_would_add_options_is_refused(path: str) -> None:
    for changes in ({"kernel": path}, {"initramfs": path}, {"drives": (Drive(id="root", path=path),)}):
        with pytest.raises(InvalidError):
            launched(machine(**changes))


def test_quotes_in_the_kernel_words_are_refused() -> None:
    with pytest.raises(InvalidError):
        launched(machine(command_line='a="b'))


def test_a_socket_that_macos_could_not_bind_is_refused() -> None:
    with pytest.raises(UnavailableError, match="too long"):
        launched(machine(), Seating(sandbox_id="sb_1", run_dir="/" + "x" * 100))


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
def test_it_works_with_macos_alone(accelerator: Any) -> None:
    with pytest.raises(UnavailableError):
        launched(machine(accelerator=accelerator))


def test_a_rate_that_nobody_would_hold_is_refused() -> None:
    with pytest.raises(UnavailableError):
        launched(machine(drives=(Drive(id="root", path="/h/r", bytes_per_second=1),)))


async def test_it_saves_and_restores_nothing() -> None:
    vmm, captured = Vfkit("/opt/vfkit"), Captured(state="/s", memory="/m")
    with pytest.raises(UnavailableError):
        vmm.launch(machine(), NOWHERE, incoming=True)
    with pytest.raises(UnavailableError):
        await vmm.capture(NOWHERE, captured)
    with pytest.raises(UnavailableError):
        await vmm.restore(machine(), NOWHERE, captured, resume=True)


async def test_pausing_and_resuming(seating: Seating) -> None:
    vmm = Vfkit("/opt/vfkit")
    async with server(seating) as process:
        for _ in range(2):
            await vmm.pause(seating)
            assert process.state == "Paused"
        for _ in range(2):
            await vmm.resume(seating)
            assert process.state == "Running"
        assert process.log.count("POST /vm/state") == 2
        await vmm.stop(seating)
        assert await vmm.state(seating) == "Stopped"


async def test_a_change_that_is_impossible_is_an_error(seating: Seating) -> None:
    async with server(seating, "Stopped"):
        with pytest.raises(EngineError, match="state transition"):
            await Vfkit("/opt/vfkit").pause(seating)


async def test_it_waits_until_the_machine_runs(seating: Seating, monkeypatch: pytest.MonkeyPatch) -> None:
    vmm = Vfkit("/opt/vfkit")
    async with server(seating, "Starting") as process:
        answer = process._answer

        def then_running(what: str, content: bytes) -> Any:
            said = answer(what, content)
            process.state = "Running"
            return said

        monkeypatch.setattr(process, "_answer", then_running)
        await vmm.boot(machine(), seating)
        assert process.log == ["GET /vm/state"] * 2


@pytest.mark.parametrize("state", ["Error", "Stopped"])
async def test_a_machine_that_ended_is_not_waited_for(seating: Seating, state: str) -> None:
    async with server(seating, state):
        with pytest.raises(EngineError, match=state):
            await Vfkit("/opt/vfkit").boot(machine(), seating)


async def test_a_vfkit_that_is_gone(seating: Seating, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SandboxDeadError):
        await Vfkit("/opt/vfkit").pause(seating)
    monkeypatch.setattr(driver, "START_SECONDS", 0)
    with pytest.raises(EngineError, match="no answer"):
        await Vfkit("/opt/vfkit").boot(machine(), seating)


@pytest.mark.parametrize("said", [None, [], {}, {"state": 1}, {"state": "Happy"}, {"state": "VirtualMachineState"}])
async def test_a_state_that_is_none(seating: Seating, monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    async with server(seating) as process:
        monkeypatch.setattr(process, "_answer", lambda what, content: (200, said))
        with pytest.raises(EngineError):
            await Vfkit("/opt/vfkit").state(seating)


@pytest.mark.parametrize(
    "words",
    [
        ["--gui"],
        ["--device", "virtio-gpu2"],
        ["--device", "virtio-blk"],
        ["--device", "virtio-blk,path=/a,readonly"],
        ["--device", "virtio-vsock,port=0,socketURL=/a"],
        ["--restful-uri", "unix://host/path"],
        ["--bootloader", 'cmdline="a'],
    ],
)
def test_the_parser_is_strict(words: list[str]) -> None:
    argv = Vfkit("/opt/vfkit").launch(machine(), NOWHERE, incoming=False).argv[1:]
    with pytest.raises(vfkit.RefusedError):
        vfkit.parse([*argv, *words])


def test_what_a_vmm_says_of_a_failure_does_not_reach_a_terminal() -> None:
    from cloche.engines.vm import local_api

    assert local_api.reason({"error": "a\x1b[2Jb\n" + "x" * 1000}, "error") == "a [2Jb " + "x" * 293
    assert local_api.reason(msgspec.json.decode(b"[1]"), "error") == "it does not say why"
