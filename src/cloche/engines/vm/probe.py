"""Finds out whether KVM works here, by booting on it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec

from cloche.engines.base import Box, Progress, Report
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import choice, kvm, plan
from cloche.engines.vm.boot import Boots
from cloche.engines.vm.ground import Grounds
from cloche.engines.vm.kvm import Verdict
from cloche.model.errors import ClocheError
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec

SPEC = SandboxSpec(limits=Limits(memory_mib=128, disk_mib=16))


async def probe(facts: Facts, home: Path, grounds: Grounds, boots: Boots, report: Report) -> Verdict:
    """Try it unless it has worked with the same QEMU and kernels, and write the verdict down. Raises nothing of its
    own: what keeps every machine from booting, whatever its accelerator, is told by others."""
    reason = kvm.usable()
    if reason is not None:
        return _told(report, Verdict(works=False, stands_on=[], reason=reason))
    try:
        made, assets = await grounds.bundle(), await grounds.assets()
    except ClocheError as error:
        return _told(report, Verdict(works=False, stands_on=[], reason=error.message))
    stands_on = kvm.conditions(made.key, assets.kernel_id)
    known = kvm.known(home)
    # what did not work may have been mended since, or was no fault of KVM's
    if known is not None and known.works and known.stands_on == stands_on:
        return _told(report, known)
    report(Progress(step="kvm", summary="booting a kernel with KVM"))
    reason = await _boots(facts, grounds, boots)
    verdict = Verdict(works=reason is None, stands_on=stands_on, reason=reason or "a kernel was booted with it")
    kvm.keep(home, verdict)
    return _told(report, verdict)


def _told(report: Report, verdict: Verdict) -> Verdict:
    text = "works" if verdict.works else "does not work here, machines are emulated"
    report(Progress(step="kvm", summary=f"KVM {text}: {verdict.reason}"))
    return verdict


async def _boots(facts: Facts, grounds: Grounds, boots: Boots) -> str | None:
    """Why it does not; None when it does."""
    with tempfile.TemporaryDirectory(prefix="cloche-empty-") as empty:
        ground = msgspec.structs.replace(await grounds.of(empty), accelerator="kvm")
    state = {**choice.of_new(facts), "version": plan.STATE_VERSION,
             "size": msgspec.to_builtins(plan.size(SPEC.limits.resolved()))}  # fmt: skip
    like = Box(sandbox_id="probe", spec=SPEC, run_dir="", state_dir="", engine_state=state)
    try:
        async with asyncio.timeout(kvm.BOOT_SECONDS), boots.machine(like, ground):
            return None
    except TimeoutError:
        return f"a kernel did not boot with it in {kvm.BOOT_SECONDS:.0f} s"
    except ClocheError as error:
        return error.message.splitlines()[0][:300]
