"""A program in QEMU's place, as if a machine had taken QEMU over: it sees nothing of the host and reaches nobody."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests import ordinary_user
from tests.security.conftest import HERE, MODES

MONITOR = HERE / "monitor"
PIDS = 24


@functools.cache
def attacker() -> bytes:
    """The attacker's program, built once."""
    if not shutil.which("go") and not _has_go_package():
        pytest.skip("no Go to build the attacker with: python3 dev.py setup")
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch, "attacker")
        argv = [sys.executable, "hatch_build.py", "go", "build", "-trimpath", "-buildvcs=false", "-o", str(built)]
        done = subprocess.run(
            [*argv, str(MONITOR / "attacker.go")], cwd=ordinary_user.ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return built.read_bytes()


def _has_go_package() -> bool:
    import importlib.util

    return importlib.util.find_spec("go") is not None


@functools.cache
def found(mode: str) -> dict[str, Any]:
    """What came of the attack in this mode of ids."""
    program, name = attacker(), MODES[mode]
    argv = [sys.executable, str(MONITOR / "confined.py")]
    if os.geteuid() != 0 or name is None:
        return _as_me(mode, argv, program)
    if mode == "helper" and not shutil.which("newuidmap"):
        pytest.skip("newuidmap is missing: python3 dev.py setup")
    with ordinary_user.made(name) as user:
        place = user.home / "attacker"
        place.write_bytes(program)
        place.chmod(0o755)
        done = user.run([*argv, str(user.home / "box"), str(place)])
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _as_me(mode: str, argv: list[str], program: bytes) -> dict[str, Any]:
    from cloche.engines.launched.facts import gather

    if gather().id_mode != mode:
        pytest.skip(f"without root only this user's own mode can be had, {gather().id_mode}")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch, "attacker")
        place.write_bytes(program)
        place.chmod(0o755)
        environment = os.environ | {"PYTHONPATH": f"{ordinary_user.ROOT / 'src'}{os.pathsep}{ordinary_user.ROOT}"}
        done = subprocess.run(
            [*argv, f"{scratch}/box", str(place)], env=environment, capture_output=True, text=True, timeout=200
        )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


pytestmark = pytest.mark.parametrize("mode", MODES)


def test_every_attack_is_refused(mode: str) -> None:
    tries = found(mode)["tries"]
    assert tries[-1]["name"] == "end", "the attacker ended before its last try"
    worked = [line["name"] for line in tries[:-1] if not line["refused"] and not line["name"].startswith("may: ")]
    assert not worked
    assert len(tries) > 100


def test_what_a_monitor_needs_works(mode: str) -> None:
    """Else the refusals would say nothing."""
    controls = {line["name"]: line["refused"] for line in found(mode)["tries"] if line["name"].startswith("may: ")}
    assert len(controls) >= 8
    assert not any(controls.values()), controls


def test_only_the_file_that_it_may_write_has_changed(mode: str) -> None:
    files, modes = found(mode)["files"], found(mode)["modes"]
    assert files == {"disk": "here", "kernel": "host", "ram": "host", "system": "host"}
    assert modes == {"disk": 0o600, "kernel": 0o600, "ram": 0o444, "system": 0o600}


def test_it_has_no_rights_at_all(mode: str) -> None:
    status = {key: value.strip() for key, value in found(mode)["status"].items()}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000000"}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    uids = {int(number) for number in status["Uid"].split()}
    assert len(uids) == 1
    assert (uids == {os.geteuid()}) is (mode == "one" and os.geteuid() != 0)
    assert min(uids) >= 1000 or mode == "one"


def test_more_threads_than_it_may_have_are_its_own_end(mode: str) -> None:
    ended = found(mode)["exit"]
    assert (ended["reason"], ended["exit_code"]) == ("program_ended", 2)
    assert "runtime" in ended["console"]
    assert len(ended["console"]) <= 4096
    assert PIDS // 2 < found(mode)["threads"] <= PIDS
    assert found(mode)["left"] == ["exit.json", "launcher.log", "supervisor.json"]


def test_it_does_not_outlive_its_supervisor(mode: str) -> None:
    assert (found(mode)["lived"], found(mode)["outlived"]) == (True, False)


def test_its_owner_copies_its_memory(mode: str) -> None:
    """Also an ordinary user whose monitor has an id that is nobody's."""
    copied = found(mode)["copied"]
    assert copied["saved"] == {"exit_code": 0, "ok": True, "pages": 1, "extents": 1}
    assert copied["loaded"] == copied["saved"]
    assert copied["found"] == "mine"
