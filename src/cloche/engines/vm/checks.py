"""Doctor's lines for the vm engine, and what a machine's end means."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import msgspec

from cloche.engines.base import BoxStatus, Check
from cloche.engines.launched import supervisor
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import assets, bundle, disks, firecracker_bundle, kvm, vmms
from cloche.model.errors import ClocheError, UnavailableError

SETUP = "cloche setup vm"
UNPROVEN = "it is unproven, no test of Cloche's has ever run a machine in it"
#: the guest's last line when it has ended as it was asked to (guest/README.md)
ENDED = re.compile(r"cloche-guest: ended (\d{1,3})")
LAST_LINES = 12
PANIC = "Kernel panic"


async def run(facts: Facts, home: Path) -> list[Check]:
    """Never raises, and boots nothing."""
    try:
        vmm = vmms.wanted()
    except UnavailableError as error:
        return [Check(id="vm.vmm", status="missing", summary=error.message, remedy=error.remedy, required=True)]
    same = [*await asyncio.to_thread(_kernel, facts, home), *_formatting()]
    if vmm == "firecracker":
        return [await _firecracker(home), *same, _kvm_alone(await _accelerator(home))]
    return [_qemu_is_used(), await _qemu(home), *same, await _accelerator(home)]


def can_clone(home: Path) -> bool:
    """By what is known without making anything."""
    if os.environ.get(vmms.VARIABLE) == "firecracker":
        return True
    program = bundle.find_program()
    made = bundle.known(home) if program else None
    return made is None or made.clones


async def _qemu(home: Path) -> Check:
    try:
        made = await bundle.bundle(home)
    except (ClocheError, OSError) as error:
        remedy = getattr(error, "remedy", None) or bundle.REMEDY
        return Check(id="vm.qemu", status="missing", summary=str(error), remedy=remedy, required=True)
    text = f"QEMU {'.'.join(map(str, made.version))}"
    if made.clones:
        return Check(id="vm.qemu", status="ok", summary=text, required=True)
    lost = f"{text}: every sandbox boots anew, and none can be forked, suspended or captured; 10 or newer can"
    return Check(id="vm.qemu", status="degraded", summary=lost, remedy=bundle.REMEDY, required=True)


def _qemu_is_used() -> Check:
    there = firecracker_bundle.find_program() is not None
    text = f"QEMU; Firecracker is here too, and only used when named: {UNPROVEN}" if there else "QEMU"
    return Check(id="vm.vmm", status="ok", summary=text)


async def _firecracker(home: Path) -> Check:
    try:
        made = await firecracker_bundle.bundle(home)
    except (ClocheError, OSError) as error:
        remedy = getattr(error, "remedy", None) or firecracker_bundle.REMEDY
        return Check(id="vm.vmm", status="missing", summary=str(error), remedy=remedy, required=True)
    text = f"Firecracker {'.'.join(map(str, made.version))}: {UNPROVEN}"
    return Check(id="vm.vmm", status="degraded", summary=text, remedy=f"{vmms.VARIABLE}=qemu", required=True)


def _kvm_alone(found: Check) -> Check:
    """Firecracker emulates nothing."""
    if found.status == "ok":
        return msgspec.structs.replace(found, required=True)
    text = f"Firecracker works with KVM only: {found.summary.rpartition(': ')[2]}"
    return Check(id="vm.accelerator", status="missing", summary=text, remedy=found.remedy, required=True)


def _kernel(facts: Facts, home: Path) -> list[Check]:
    try:
        found = assets.current(home, facts.guest)
    except (ClocheError, OSError) as error:
        remedy = getattr(error, "remedy", None) or SETUP
        return [Check(id="vm.kernel", status="missing", summary=str(error), remedy=remedy, required=True)]
    kernel = Check(id="vm.kernel", status="ok", summary=f"Linux {found.release}", required=True)
    return [kernel, _network(found.redirects, found.refusals)]


def _network(redirects: bool | None, refusals: bool | None) -> Check:
    summary = "programs that know no proxy reach the door"
    if redirects and refusals:
        return Check(id="vm.network", status="ok", summary=summary)
    if redirects:
        summary += "; refused UDP and pings are not logged: the kernel lacks nft_log, or is of an earlier set-up"
        return Check(id="vm.network", status="degraded", summary=summary, remedy=SETUP)
    why = "the kernel has no nf_tables" if redirects is False else "the kernel is of an earlier set-up"
    summary = f"only programs that know a proxy reach the door: {why}"
    return Check(id="vm.network", status="degraded", summary=summary, remedy=SETUP)


def redirects(home: Path) -> bool:
    """By what is known of the kernel."""
    pointer = assets.read_pointer(home)
    return pointer is not None and pointer.redirects is True


def _formatting() -> list[Check]:
    """Nearly every system has it, so only its absence is told."""
    try:
        disks.mke2fs()
    except ClocheError as error:
        return [Check(id="vm.disk", status="missing", summary=error.message, remedy=error.remedy, required=True)]
    return []


async def _accelerator(home: Path) -> Check:
    reason, verdict = kvm.usable(), kvm.known(home)
    if reason is None and verdict is not None and verdict.works:
        return Check(id="vm.accelerator", status="ok", summary="KVM: a kernel was booted with it")
    why = reason or (verdict.reason if verdict else "nobody has tried KVM yet")
    summary = f"emulated (TCG), ten to twenty times slower and only used when asked for by --engine vm: {why}"
    return Check(id="vm.accelerator", status="degraded", summary=summary, remedy=_way_to_kvm(reason, verdict))


def _way_to_kvm(reason: str | None, verdict: kvm.Verdict | None) -> str:
    if reason is None and verdict is None:
        return SETUP
    return kvm.PERMIT if reason == kvm.FORBIDDEN else "a machine with working KVM"


def explained(status: BoxStatus, run_dir: Path) -> BoxStatus:
    """The launcher knows that QEMU has ended; the console says why."""
    if status.status != "exited" or status.reason != "program_ended":
        return status
    said = console(run_dir)
    if PANIC in said:
        return msgspec.structs.replace(status, reason="guest_panic", said=last_words(run_dir))
    if ended := ENDED.search(said):
        return BoxStatus(status="exited", exit_code=int(ended[1]), reason="stopped")
    reason = "guest_died" if status.exit_code == 0 else "monitor_died"
    return msgspec.structs.replace(status, reason=reason, said=last_words(run_dir) or None)


def console(run_dir: Path) -> str:
    """The end of what a machine has said, once it has ended: cleaned by the supervisor, but its own words."""
    written = supervisor.read_json(run_dir / "exit.json") or {}
    return str(written.get("console", ""))


def last_words(run_dir: Path) -> str:
    lines = [line.strip() for line in console(run_dir).splitlines() if line.strip()]
    panic = next((number for number, line in enumerate(lines) if PANIC in line), len(lines) - LAST_LINES)
    # the trace behind it says less than the line itself
    first = max(0, panic)
    return " | ".join(lines[first : first + LAST_LINES])
