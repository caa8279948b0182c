"""Every probe in every mode, by every user: refused. And a control for each that may run outside: not refused there."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.security.conftest import ATTACKERS, HERE, load_probes, results

probing = load_probes()
PROBES = [*probing.PROBES, "guest_survived"]
SAFE = sorted(name for name, function in probing.PROBES.items() if getattr(function, "safe", False))

#: Root inside owns PID 1's files in /proc. What it can do with them hurts its own box and nobody else.
ROOT_INSIDE_MAY = {
    "write_oom_score_adj": "it can only make the guest the first to die, and with it itself",
    "write_coredump_filter_of_init": "PID 1 dumps no core",
    "clear_refs_of_init": "it only resets a statistic",
    "write_autogroup": "a share of its own CPU limit",
    "write_sched": "it only resets a statistic",
}


@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("name", PROBES)
def test_refused(attacker: str, name: str) -> None:
    mode, user = attacker.split("-")
    found = results(mode).get((user, name))
    assert found is not None, "the probes ended before this one"
    if user == "root" and name in ROOT_INSIDE_MAY:
        pytest.skip(f"root inside may: {ROOT_INSIDE_MAY[name]}")
    assert found["refused"] is True, found["detail"]


@functools.cache
def outside() -> dict[str, dict[str, Any]]:
    """The safe probes as root of the host, in namespaces that are thrown away."""
    namespaces = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    argv = [*namespaces, sys.executable, "-I", "-B", str(HERE / "probes/run.py"), "{}", *SAFE]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return {line["probe"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.root
@pytest.mark.parametrize("name", SAFE)
def test_control_succeeds_outside(name: str) -> None:
    """Else the refusal inside would say nothing: a misspelt attack is refused everywhere."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("the control needs root and unshare")
    found, inside = outside()[name], results("range")["user", name]
    if found["refused"] and found["errno"] == inside.get("errno"):
        pytest.skip(f"the machine itself refuses it: {found['detail']}")
    assert not found["refused"] or found["errno"] != inside["errno"], found["detail"]


def test_most_controls_succeed() -> None:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("the control needs root and unshare")
    succeeded = [name for name, found in outside().items() if found["refused"] is False]
    assert len(succeeded) >= len(SAFE) // 2, sorted(set(SAFE) - set(succeeded))


def test_the_runner_tells_success_from_refusal() -> None:
    def crash() -> None:
        os.kill(os.getpid(), 9)

    ends = {
        "works": probing.attempt(lambda: 42), "refused": probing.attempt(lambda: os.mkdir("/proc/x")),
        "nothing": probing.attempt(lambda: probing.leaked(b"")),
        "leak": probing.attempt(lambda: probing.leaked(b"key")),
        "broken": probing.attempt(lambda: 1 / 0), "killed": probing.attempt(crash),
    }  # fmt: skip
    assert {name: end["refused"] for name, end in ends.items()} == {
        "works": False, "refused": True, "nothing": True, "leak": False, "broken": None, "killed": None,
    }  # fmt: skip
    assert ends["refused"]["errno"] in ("ENOENT", "EPERM", "EACCES")


def test_init_probes_see_a_stopped_process() -> None:
    """The probes of PID 1 judge by its state: T is not taken for unharmed."""
    init_process = sys.modules["init_process"]
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), 19)
    os.waitpid(pid, os.WUNTRACED)
    try:
        assert "state T" in init_process.unharmed(pid)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
