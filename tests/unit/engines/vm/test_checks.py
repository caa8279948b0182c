"""What doctor says of the vm engine, and what is told of a machine that has ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloche.engines.vm import checks, disks, kvm
from cloche.engines.vm.kvm import Verdict
from cloche.model.errors import UnavailableError


def test_mke2fs_is_told_of_only_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "mke2fs", lambda: "/sbin/mke2fs")
    assert checks._formatting() == []

    def missing() -> str:
        raise UnavailableError("no mke2fs", remedy="install it")

    monkeypatch.setattr(disks, "mke2fs", missing)
    (found,) = checks._formatting()
    assert (found.status, found.required, found.remedy) == ("missing", True, "install it")


@pytest.mark.parametrize(("redirects", "status"), [(True, "ok"), (False, "degraded"), (None, "degraded")])
def test_the_network_line_is_about_programs_that_know_no_proxy(redirects: bool | None, status: str) -> None:
    found = checks._network(redirects, True)
    assert (found.status, found.required) == (status, False)
    assert "no proxy" in found.summary or "know a proxy" in found.summary


@pytest.mark.parametrize("refusals", [False, None])
def test_the_network_line_says_that_refused_udp_is_not_logged(refusals: bool | None) -> None:
    found = checks._network(True, refusals)
    assert (found.status, found.required) == ("degraded", False)
    assert "UDP and pings are not logged" in found.summary


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reason", "verdict", "status", "remedy"),
    [
        (None, Verdict(works=True, stands_on=[], reason="booted"), "ok", None),
        (None, None, "degraded", "cloche setup vm"),
        (None, Verdict(works=False, stands_on=[], reason="hangs"), "degraded", "a machine with working KVM"),
        (kvm.FORBIDDEN, None, "degraded", kvm.PERMIT),
        ("there is no /dev/kvm", None, "degraded", "a machine with working KVM"),
    ],
)
async def test_kvm_that_nobody_has_tried_can_be_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str | None, verdict: Verdict | None, status: str,
    remedy: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(kvm, "usable", lambda: reason)
    monkeypatch.setattr(kvm, "known", lambda home: verdict)
    found = await checks._accelerator(tmp_path)
    assert (found.status, found.remedy) == (status, remedy)


def test_last_words_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "exit.json").write_text(json.dumps({"console": "first\n\n  second \n"}))
    assert checks.last_words(tmp_path) == "first | second"
