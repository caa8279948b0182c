"""The description of a virtual machine, the words of its kernel, and QEMU's command line."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.engines.vm.machine import Boot, Drive, Machine, kernel_words, qemu_argv
from cloche.model.errors import InvalidError
from cloche.model.limits import Limits

LIMITS = Limits(memory_mib=300, cpus=0.5, pids=99).resolved()
SOCKETS = {"channel": 20, "qmp": 21}
FILES = {"kernel": 10, "initramfs": 11, "root": 12, "scratch": 13, "console": 14}


def machine(**changes: Any) -> Machine:
    settings: dict[str, Any] = {
        "vcpus": 2,
        "memory_mib": 256,
        "kernel": "/k/vmlinux",
        "initramfs": "/k/initrd",
        "command_line": "cloche.boot=1",
        "drives": (
            Drive(id="root", path="/d/root", read_only=True, operations_per_second=500),
            Drive(id="scratch", path="/d/scratch", bytes_per_second=1 << 20),
        ),
        "accelerator": "tcg",
    }
    return Machine(**{**settings, **changes})


def option(argv: list[str], name: str) -> list[str]:
    return [value for word, value in itertools.pairwise(argv) if word == name]


def words(**boot: Any) -> list[str]:
    return kernel_words(Boot(**boot), LIMITS).split()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"vcpus": 0}, "vcpus"),
        ({"vcpus": 33}, "vcpus"),
        ({"memory_mib": 63}, "memory_mib"),
        ({"kernel": ""}, "kernel"),
        ({"initramfs": "a\0b"}, "initramfs"),
        ({"command_line": "a\nb"}, "command_line"),
        ({"command_line": "x" * 2048}, "command_line"),
        ({"drives": (Drive(id="a", path="/1"), Drive(id="a", path="/2"))}, "drives.id"),
    ],
)
def test_what_no_vmm_could_run_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        machine(**changes)
    assert refusal.value.details["field"] == field


@pytest.mark.parametrize("name", ["", "A", "a,b", "a=b", "a/b", "../a", "a" * 17, "1a"])
def test_the_name_of_a_drive_cannot_add_options(name: str) -> None:
    with pytest.raises(InvalidError):
        Drive(id=name, path="/d")


@pytest.mark.parametrize("rate", [0, -1, 1 << 50])
def test_a_rate_that_is_none_is_refused(rate: int) -> None:
    with pytest.raises(InvalidError):
        Drive(id="a", path="/d", bytes_per_second=rate)


def test_the_guest_learns_its_limits_from_the_kernel() -> None:
    assert {"cloche.boot=1", "cloche.mem=300", "cloche.pids=99", "cloche.cpus=0.5"} <= set(words())


def test_the_console_speaks_when_the_kernel_panics_and_not_before() -> None:
    assert {"console=ttyS0", "loglevel=1", "8250.nr_uarts=1"} <= set(words())
    assert {"console=null", "loglevel=0", "8250.nr_uarts=0"} <= set(words(console=False))


def test_only_an_emulated_clock_is_told_how_fast_it_runs() -> None:
    assert {"tsc_early_khz=2596120", "no_timer_check"} <= set(words(accelerator="tcg", host_khz=2596120))
    assert not any(word.startswith("tsc_early_khz") for word in words(accelerator="kvm", host_khz=2596120))
    assert not any(word.startswith("tsc_early_khz") for word in words(accelerator="tcg"))


def test_each_vmm_ends_a_panicked_machine_in_its_own_way() -> None:
    assert "reboot=t" in words(vmm="qemu")
    assert {"reboot=k", "pci=off", "cloche.vsock=1024"} <= set(words(vmm="firecracker"))
    vfkit = words(vmm="vfkit", architecture="aarch64")
    assert "console=hvc0" in vfkit and "pci=off" not in vfkit
    assert not any(word.startswith(("reboot=", "tsc")) for word in vfkit)


@given(st.sampled_from(["qemu", "firecracker", "vfkit"]), st.sampled_from(["kvm", "tcg"]), st.booleans())
def test_the_words_always_fit(vmm: Any, accelerator: Any, console: bool) -> None:
    boot = Boot(vmm=vmm, accelerator=accelerator, console=console, host_khz=9999999)
    assert machine(command_line=kernel_words(boot, LIMITS))


def test_qemu_opens_nothing_by_its_path() -> None:
    argv = qemu_argv(machine(), FILES, incoming=False, memory=9, sockets=SOCKETS)
    assert not any(place in word for word in argv for place in ("/k/", "/d/"))
    assert option(argv, "-kernel") == ["/proc/self/fd/10"] and option(argv, "-initrd") == ["/proc/self/fd/11"]
    assert option(argv, "-add-fd") == ["fd=12,set=1", "fd=13,set=2"]
    assert "socket,id=console,fd=14" in option(argv, "-chardev")
    root, scratch = option(argv, "-drive")
    assert "readonly=on" in root and "throttling.iops-total=500" in root
    assert "readonly" not in scratch and "throttling.bps-total=1048576" in scratch


def test_qemu_may_never_start_programs() -> None:
    (sandbox,) = option(qemu_argv(machine(), FILES, incoming=True, memory=9, sockets=SOCKETS), "-sandbox")
    assert sandbox.startswith("on,") and "spawn=deny" in sandbox and "elevateprivileges=deny" in sandbox


def test_a_clone_has_the_devices_of_its_template_and_nothing_to_boot() -> None:
    cold = qemu_argv(machine(), FILES, incoming=False, memory=9, sockets=SOCKETS)
    clone = qemu_argv(machine(), FILES, incoming=True, memory=9, sockets=SOCKETS)
    assert option(cold, "-device") == option(clone, "-device") and option(cold, "-M") == option(clone, "-M")
    assert option(clone, "-incoming") == ["defer"]
    assert not {"-kernel", "-initrd", "-append"} & set(clone)


def test_memory_is_private_to_the_machine() -> None:
    (backend,) = option(qemu_argv(machine(), FILES, incoming=True, memory=9, sockets=SOCKETS), "-object")
    assert "mem-path=/proc/self/fd/9,share=off,readonly=on,rom=off" in backend and "size=256M" in backend


def test_a_qemu_that_cannot_clone_gets_plain_memory() -> None:
    argv = qemu_argv(machine(), FILES, incoming=False, memory=None, sockets=SOCKETS)
    assert "-object" not in argv and not any("memory-backend" in word for word in argv)


def test_without_a_console_there_is_no_serial_port() -> None:
    files = {name: number for name, number in FILES.items() if name != "console"}
    argv = qemu_argv(machine(), files, incoming=False, memory=9, sockets=SOCKETS)
    assert "isa-serial=off" in option(argv, "-M")[0] and "-serial" not in argv


@pytest.mark.parametrize(
    ("accelerator", "cpu", "pit"), [("tcg", "max,la57=off,erms=off,fsrm=off", "on"), ("kvm", "host", "off")]
)
def test_the_processor_follows_the_accelerator(accelerator: Any, cpu: str, pit: str) -> None:
    argv = qemu_argv(machine(accelerator=accelerator), FILES, incoming=False, memory=9, sockets=SOCKETS)
    assert option(argv, "-cpu") == [cpu] and f"pit={pit}" in option(argv, "-M")[0]


def test_an_arm_mac_gets_the_virt_board() -> None:
    arm = machine(architecture="aarch64", accelerator="hvf")
    argv = qemu_argv(arm, FILES, incoming=False, memory=None, sockets=SOCKETS)
    assert argv[0] == "qemu-system-aarch64" and option(argv, "-M")[0].startswith("virt")
    assert option(argv, "-kernel") == ["/dev/fd/10"] and "-bios" not in argv


def test_what_is_no_descriptor_is_opened_where_the_machine_says() -> None:
    files = {name: number for name, number in FILES.items() if name not in ("kernel", "initramfs")}
    argv = qemu_argv(machine(), files, incoming=False, memory="/m/a,size=1", sockets=SOCKETS)
    assert option(argv, "-kernel") == ["/k/vmlinux"] and option(argv, "-initrd") == ["/k/initrd"]
    assert "mem-path=/m/a,,size=1," in option(argv, "-object")[0]


def test_kvm_may_come_as_a_descriptor_and_emulation_never_gets_it() -> None:
    files = {**FILES, "kvm": 15}
    argv = qemu_argv(machine(accelerator="kvm"), files, incoming=False, memory=9, sockets=SOCKETS)
    assert option(argv, "-accel") == ["kvm,device=/dev/fdset/1000"] and "fd=15,set=1000" in option(argv, "-add-fd")
    emulated = qemu_argv(machine(), files, incoming=False, memory=9, sockets=SOCKETS)
    assert option(emulated, "-accel") == ["tcg,tb-size=128"] and "fd=15,set=1000" not in option(emulated, "-add-fd")
