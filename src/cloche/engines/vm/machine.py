"""One virtual machine as data, the words that its kernel starts with, and how QEMU is told about it. Pure: whoever
starts a VMM opens the files and passes their descriptors.

The console is an ISA serial port with `console=ttyS0 loglevel=1`: on x86 it is the only one of QEMU's that shows a
kernel panic at any moment. Measured with QEMU 10, TCG, Linux 6.1, from start to the guest's first byte, 15 runs each
in turn on a busy machine, milliseconds, median (least): no console 1348 (1194), serial port 1382 (1234), virtio
console 1357 (1248). At level 1 nothing is printed before a panic, so no port is written to; at level 0 the panic is
silent as well, and a panic before the virtio driver is loaded never reaches a virtio console."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from cloche.model.errors import InvalidError
from cloche.model.limits import ResolvedLimits

Accelerator = Literal["kvm", "hvf", "tcg"]
Architecture = Literal["x86_64", "aarch64"]
VmmName = Literal["qemu", "firecracker", "vfkit"]

#: what all VMMs here can do (Firecracker's most), and what a guest of ours boots in
MAX_VCPUS = 32
MIN_MEMORY_MIB, MAX_MEMORY_MIB = 64, 1 << 20
#: COMMAND_LINE_SIZE of Linux on both architectures, with its NUL
MAX_COMMAND_LINE_BYTES = 2047
#: where a guest without a virtio-serial port listens
GUEST_VSOCK_PORT = 1024

#: of code that emulation has translated; what QEMU takes by itself is a share of the host's memory
TRANSLATED_MIB = 128
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

_DRIVE_ID = re.compile(r"[a-z][a-z0-9_]{0,15}")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


class Drive(msgspec.Struct, frozen=True, kw_only=True):
    """A raw disk image. The first drive of a machine is the guest's /dev/vda, the next /dev/vdb. The limits hold for
    reading and writing together; None: none. Raises InvalidError."""

    id: str
    path: str
    read_only: bool = False
    bytes_per_second: int | None = None
    operations_per_second: int | None = None

    def __post_init__(self) -> None:
        if not _DRIVE_ID.fullmatch(self.id):
            raise InvalidError(f"no name of a drive: {self.id!r}", field="drives.id")
        _check_path(self.path, "drives.path")
        for field in ("bytes_per_second", "operations_per_second"):
            value = getattr(self, field)
            if value is not None and not 1 <= value < 1 << 50:
                raise InvalidError(f"{field} must be positive, not {value}", field=f"drives.{field}")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Raises InvalidError for what no VMM here could run."""

    vcpus: int
    memory_mib: int
    kernel: str
    initramfs: str
    command_line: str
    drives: tuple[Drive, ...] = ()
    accelerator: Accelerator = "kvm"
    architecture: Architecture = "x86_64"

    def __post_init__(self) -> None:
        _check_range("vcpus", self.vcpus, 1, MAX_VCPUS)
        _check_range("memory_mib", self.memory_mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB)
        _check_path(self.kernel, "kernel")
        _check_path(self.initramfs, "initramfs")
        if not _PRINTABLE.fullmatch(self.command_line) or len(self.command_line) > MAX_COMMAND_LINE_BYTES:
            raise InvalidError("a kernel command line that no kernel takes", field="command_line")
        if len({drive.id for drive in self.drives}) != len(self.drives):
            raise InvalidError("two drives have the same name", field="drives.id")


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel's words depend on beside the limits. `host_khz`: how fast the host's time stamp counter runs;
    under TCG the guest's runs as fast, and a busy host makes the kernel's own measurement of it fail."""

    vmm: VmmName = "qemu"
    accelerator: Accelerator = "kvm"
    architecture: Architecture = "x86_64"
    host_khz: int | None = None
    console: bool = True


def kernel_words(boot: Boot, limits: ResolvedLimits) -> str:
    """The kernel's command line: quick to boot, silent but for a panic, which ends the machine, and the guest's own
    words: limits in MiB, a count, and CPUs as a decimal number."""
    words = [*_console_words(boot), *_GUEST_IS_ALONE, *_ending_words(boot)]
    if boot.architecture == "x86_64":
        words += _x86_words(boot)
    words += ["cloche.boot=1", f"cloche.mem={limits.memory_mib}", f"cloche.pids={limits.pids}"]
    words.append(f"cloche.cpus={limits.cpus:g}")
    if boot.vmm != "qemu":
        words.append(f"cloche.vsock={GUEST_VSOCK_PORT}")
    return " ".join(words)


#: one tenant, whose host protects itself: what makes booting slower and protects nobody stays off
_GUEST_IS_ALONE = (
    "mitigations=off",
    "rcupdate.rcu_expedited=1",
    "random.trust_cpu=on",
    "nokaslr",
    "cryptomgr.notests",
    "ima=off",
    "evm=off",
    "audit=0",
    "apparmor=0",
    "nowatchdog",
    "init_on_alloc=0",
)


def _console_words(boot: Boot) -> list[str]:
    if not boot.console:
        return ["console=null", "quiet", "loglevel=0", "8250.nr_uarts=0"]
    if boot.vmm == "vfkit":
        return ["console=hvc0", "quiet", "loglevel=1"]
    if boot.vmm == "qemu" and boot.architecture == "aarch64":
        return ["console=ttyAMA0", "quiet", "loglevel=1"]
    return ["console=ttyS0", "quiet", "loglevel=1", "8250.nr_uarts=1"]


def _ending_words(boot: Boot) -> list[str]:
    """A reset is how a machine ends. Firecracker sees it through the keyboard controller (docs/getting-started.md);
    a triple fault ends it too, but as an error."""
    if boot.architecture == "aarch64":
        return ["panic=-1"]
    return ["panic=-1", "reboot=k" if boot.vmm == "firecracker" else "reboot=t"]


def _x86_words(boot: Boot) -> list[str]:
    words = ["tsc=reliable", "noreplace-smp"]
    if boot.vmm != "vfkit":
        words.append("pci=off")
    if boot.vmm == "firecracker":
        words += ["i8042.noaux", "i8042.nomux", "i8042.dumbkbd"]
    if boot.accelerator == "tcg":
        words.append("no_timer_check")
        words += [f"tsc_early_khz={boot.host_khz}"] if boot.host_khz else []
    return words


def qemu_argv(
    machine: Machine, files: Mapping[str, int], *, incoming: bool, memory: int | str | None, sockets: Mapping[str, int]
) -> list[str]:
    """QEMU's command line. It works with descriptors that it inherits:

    `files`: every drive's id; "console", a connected socket where the guest's console goes,
    without it nowhere: its other end has to be read, or the guest stands still after some 278 bytes, in a panic too;
    "kernel" and "initramfs", without them their paths; "kvm" for /dev/kvm (QEMU >= 9.1).
    `memory`: a file of the machine's size, by descriptor or path, whose pages become the machine's RAM when they are
    read and private ones when they are written; None: plain RAM, all that QEMU 7.2 can do. `sockets`: listening ones,
    "channel" and "qmp".

    The same machine with `incoming` takes the state of one that was started without: whatever is in this list and
    not about booting decides about that, so a capture's key has to contain it."""
    argv = [_PROGRAM[machine.architecture], *_board(machine, "console" in files, memory is not None)]
    argv += _accelerator(machine, files)
    argv += ["-smp", str(machine.vcpus), "-m", str(machine.memory_mib)]
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    if memory is not None:
        argv += ["-object", _memory(machine, memory)]
    argv += ["-device", "virtio-serial-device", *_socket_device("channel", sockets["channel"])]
    argv += ["-device", "virtserialport,chardev=channel,name=guest,nr=1"]
    argv += [*_socket_device("qmp", sockets["qmp"]), "-mon", "chardev=qmp,mode=control"]
    for number, drive in enumerate(machine.drives):
        argv += _qemu_drive(drive, number + 1, files[drive.id])
    if "console" in files:
        argv += _qemu_console(files["console"])
    argv += ["-sandbox", SANDBOX]
    return argv + (_INCOMING if incoming else _qemu_boot(machine, files))


_PROGRAM = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64"}
#: drives and the console count from 1
#: 5-level paging is slow to emulate, and a kernel that knows fast string moves copies by `rep movsb`, which is emulated
#: byte by byte: files through the channel came at 30 to 83 MB/s with it and at 104 to 187 without
_EMULATED = "max,la57=off,erms=off,fsrm=off"
_KVM_SET = 1000
_INCOMING = ["-incoming", "defer", "-global", "migration.send-configuration=off"]


def _board(machine: Machine, console: bool, backed: bool) -> list[str]:
    # a capture of the devices alone ends without the description that is looked for behind it
    # what machines have in common is not merged by the host: how long a write takes would tell one what another has
    common = ",suppress-vmdesc=on,mem-merge=off" + (",memory-backend=mem" if backed else "")
    if machine.architecture == "aarch64":
        cpu = "max" if machine.accelerator == "tcg" else "host"
        return ["-M", f"virt{common}", "-cpu", cpu]
    # under TCG the kernel needs the PIT's interrupts; with hardware it has better clocks
    pit = "on" if machine.accelerator == "tcg" else "off"
    serial = "on" if console else "off"
    board = f"microvm,acpi=on,isa-serial={serial},rtc=on,pic=off,pit={pit},auto-kernel-cmdline=off{common}"
    # SeaBIOS would put ACPI tables over the initramfs
    cpu = _EMULATED if machine.accelerator == "tcg" else "host"
    return ["-M", board, "-cpu", cpu, "-bios", "qboot.rom"]


def _accelerator(machine: Machine, files: Mapping[str, int]) -> list[str]:
    if machine.accelerator == "tcg":
        return ["-accel", f"tcg,tb-size={TRANSLATED_MIB}"]
    if machine.accelerator != "kvm" or "kvm" not in files:
        return ["-accel", machine.accelerator]
    return ["-add-fd", f"fd={files['kvm']},set={_KVM_SET}", "-accel", f"kvm,device=/dev/fdset/{_KVM_SET}"]


def _memory(machine: Machine, memory: int | str) -> str:
    path = _descriptor_path(machine, memory) if isinstance(memory, int) else memory.replace(",", ",,")
    size = f"size={machine.memory_mib}M,mem-path={path}"
    return f"memory-backend-file,id=mem,{size},share=off,readonly=on,rom=off"


def _descriptor_path(machine: Machine, descriptor: int) -> str:
    return f"/dev/fd/{descriptor}" if machine.accelerator == "hvf" else f"/proc/self/fd/{descriptor}"


def _socket_device(name: str, descriptor: int) -> list[str]:
    return ["-chardev", f"socket,id={name},fd={descriptor},server=on,wait=off"]


def _qemu_drive(drive: Drive, fdset: int, descriptor: int) -> list[str]:
    options = [f"if=none,id={drive.id},file=/dev/fdset/{fdset},format=raw,file.locking=off,file.auto-read-only=off"]
    options.append("readonly=on" if drive.read_only else "discard=unmap")
    if drive.bytes_per_second is not None:
        options.append(f"throttling.bps-total={drive.bytes_per_second}")
    if drive.operations_per_second is not None:
        options.append(f"throttling.iops-total={drive.operations_per_second}")
    device = f"virtio-blk-device,drive={drive.id},serial={drive.id}"
    return ["-add-fd", f"fd={descriptor},set={fdset}", "-drive", ",".join(options), "-device", device]


def _qemu_console(descriptor: int) -> list[str]:
    return ["-chardev", f"socket,id=console,fd={descriptor}", "-serial", "chardev:console"]


def _qemu_boot(machine: Machine, files: Mapping[str, int]) -> list[str]:
    places = {"kernel": machine.kernel, "initramfs": machine.initramfs}
    places |= {name: _descriptor_path(machine, files[name]) for name in places if name in files}
    return ["-kernel", places["kernel"], "-initrd", places["initramfs"], "-append", machine.command_line]


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidError(f"{field} must be from {low} to {high}, not {value}", field=field)


def _check_path(path: str, field: str) -> None:
    if not path or "\0" in path:
        raise InvalidError(f"no path: {path!r}", field=field)
