"""Values of secrets on the host, beside the memory of node and door: there are none, for nobody."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from cloche.model.errors import ClocheError
from tests.integration.egress_world import NAME, World, egress_world
from tests.integration.node_harness import ask, namespace_home, node_pid
from tests.integration.test_egress_node import door_of, holding, sent

VALUE = "value-that-is-nowhere-7c1f"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with egress_world() as made:
        yield made


@pytest.fixture(scope="module")
def home(world: World) -> Iterator[Path]:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    # as somebody has it who wants core dumps
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        with tempfile.TemporaryDirectory() as above, namespace_home(Path(above) / "home") as place:
            # where others may look
            Path(above).chmod(0o755)
            yield place
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.fixture(scope="module")
def box(home: Path, world: World) -> Iterator[Sandbox]:
    """It has used its secret."""
    with Sandbox.create(net=world.net, secrets=[(f"TOKEN@{NAME}", VALUE)]) as made:
        assert sent(made, world) == "hello /known\n"
        yield made


def test_no_file_has_it(home: Path, box: Sandbox) -> None:
    box.stop()
    box.start()
    assert holding(home, VALUE) == []


def test_no_process_shows_it(home: Path, box: Sandbox) -> None:
    shown = [str(path) for name in ("environ", "cmdline") for path in Path("/proc").glob(f"[0-9]*/{name}")
             if path.parent.name != str(os.getpid()) and VALUE.encode() in readable(path)]  # fmt: skip
    assert shown == []


def readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_no_answer_has_it(home: Path, box: Sandbox) -> None:
    secret = {"name": "TOKEN", "hosts": [NAME]}
    for body in ({"value": [VALUE]}, {"value": f"{VALUE}\n\n"}, {"value": VALUE * 4000}, {"value": VALUE, "more": 1}):
        status, said = ask(home, "PUT", f"/v1/sandboxes/{box.id}/egress/secrets/TOKEN", {"secret": secret, **body})
        assert status == 422
        assert VALUE not in str(said)
    for target in (f"/v1/sandboxes/{box.id}", f"/v1/sandboxes/{box.id}/egress", "/v1/sandboxes", "/v1/doctor",
                   f"/v1/sandboxes/{box.id}/events", "/v1/audit/egress"):  # fmt: skip
        assert VALUE not in str(ask(home, "GET", target)[1])


@pytest.mark.parametrize("end", ["exit 3", "yes $0", "kill -9 $$"])
def test_a_command_that_fails_is_not_cited(home: Path, tmp_path: Path, end: str) -> None:
    program = tmp_path / "token"
    program.write_text(f"#!/bin/sh\necho {VALUE} >&2; echo {VALUE}; {end}\n")
    program.chmod(0o700)
    with pytest.raises(ClocheError) as failed:
        Sandbox.create(secrets=[f"TOKEN=cmd:{program}@{NAME}"])
    assert VALUE not in str(failed.value) + repr(failed.value.details)
    assert holding(home, VALUE) == []


def test_files_are_of_this_user_alone(home: Path, box: Sandbox) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    private = [home / "egress" / "authority.pem", home / "audit" / "egress.jsonl", home / "logs" / "door.log",
               *(path for path in home.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode))]  # fmt: skip
    assert [str(path) for path in private if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_neither_node_nor_door_leaves_a_core(home: Path, box: Sandbox) -> None:
    """A limit of 0 does not keep a core_pattern that pipes from running; 1 does, and so does not being dumpable."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    assert core_limit(node_pid(home)) == ("0" if hard == 0 else "1")
    assert core_limit(door_of(home)) == "0"


def core_limit(pid: int) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[4] for line in lines if line.startswith("Max core"))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to act as another user")
def test_another_user_sees_neither_files_nor_memory(home: Path, box: Sandbox) -> None:
    beside = home.parent / "beside"
    beside.touch(0o644)
    wanted = [beside, home / "egress" / "authority.pem", home / "audit" / "egress.jsonl", home / "node.sock"]
    for pid in (node_pid(home), door_of(home)):
        wanted += [Path(f"/proc/{pid}/{name}") for name in ("environ", "mem", "maps", "fd", "cwd")]
    look = 'if test -d "$each"; then ls "$each/"; else cat "$each"; fi > /dev/null 2>&1'
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c",
              f'for each; do {look} && echo "$each"; done; true', "sh"]  # fmt: skip
    done = subprocess.run([*nobody, *map(str, wanted)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{beside}\n", "")
