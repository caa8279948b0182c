"""Machines that began as one memory are not one another: names, clocks, and everything that is drawn by chance."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cloche import Sandbox
from tests.integration.vm_node import AT_ONCE, VmNode, vm_node_in
from tests.vm_root import VmPlace

CLONES, FORKS = 20, 4
#: of the clones whose node is asked too, and of those whose numpy is: both take seconds to start under emulation
WITH_NODE, WITH_NUMPY = 20, 3
#: a clock that nobody had set would be off by the age of the template at least
CLOCK_SECONDS = 2.0

CHANCE = """
import json, os, random, secrets, tempfile, uuid, _ssl as ssl
print(json.dumps({
    "random": random.random(), "urandom": os.urandom(16).hex(), "secrets": secrets.token_hex(16),
    "uuid1": str(uuid.uuid1()), "uuid4": str(uuid.uuid4()), "ssl": ssl.RAND_bytes(16).hex(),
    "temporary": next(tempfile._get_candidate_names()), "hostname": os.uname().nodename,
    "machine_id": open("/etc/machine-id").read(), "hosts": open("/etc/hosts").read(),
}))
"""
NODE = """
const crypto = require("crypto")
console.log(JSON.stringify({"Math.random": Math.random(), randomUUID: crypto.randomUUID(),
    randomBytes: crypto.randomBytes(16).toString("hex")}))
"""
NUMPY = "import numpy; print(numpy.random.random(), numpy.random.default_rng().random())"
KEY = ["openssl", "genpkey", "-algorithm", "ed25519"]


@pytest.fixture(scope="module")
def node(vm_place: VmPlace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmNode]:
    with vm_node_in(vm_place, vm_place.home(tmp_path_factory.mktemp("node") / "home")) as made:
        yield made


@pytest.fixture(scope="module")
def clones(node: VmNode) -> list[Sandbox]:
    return node.many(CLONES)


def said(sandboxes: list[Sandbox], *argv: str) -> list[str]:
    """What the command said in each, with an exit of 0."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda each: each.exec(*argv, check=True).stdout, sandboxes))


def need(place: VmPlace, *paths: str) -> None:
    if not all(list(place.directory.glob(path)) for path in paths):
        pytest.skip(f"this machine has no {' and '.join(paths)} to put into the root")


def require_different(found: list[dict[str, Any]]) -> None:
    """Each value of each is another one than all others'."""
    seen: defaultdict[str, list[Any]] = defaultdict(list)
    for each in found:
        for name, value in each.items():
            seen[name].append(value)
    assert {name: len(set(values)) for name, values in seen.items()} == dict.fromkeys(seen, len(found))


@pytest.mark.slow
def test_python_draws_something_else_in_every_clone(clones: list[Sandbox]) -> None:
    found = [json.loads(text) for text in said(clones, "python3", "-c", CHANCE)]
    require_different(found)
    assert [each["hostname"] for each in found] == [clone.id.replace("_", "-") for clone in clones]
    assert all(clone.id.replace("_", "-") in each["hosts"] for clone, each in zip(clones, found, strict=True))


@pytest.mark.slow
def test_the_rest_of_a_machine_draws_something_else_in_every_clone(clones: list[Sandbox]) -> None:
    require_different([{"SRANDOM": text} for text in said(clones, "bash", "-c", "echo $SRANDOM-$SRANDOM")])
    require_different([{"kernel": text} for text in said(clones, "cat", "/proc/sys/kernel/random/uuid")])


@pytest.mark.slow
def test_keys_are_made_anew_in_every_clone(vm_place: VmPlace, clones: list[Sandbox]) -> None:
    need(vm_place, "usr/bin/openssl")
    require_different([{"key": text} for text in said(clones, *KEY)])


@pytest.mark.slow
def test_node_draws_something_else_in_every_clone(vm_place: VmPlace, clones: list[Sandbox]) -> None:
    need(vm_place, "usr/bin/node")
    require_different([json.loads(text) for text in said(clones[:WITH_NODE], "node", "-e", NODE)])


@pytest.mark.slow
def test_numpy_draws_something_else_in_every_clone(vm_place: VmPlace, clones: list[Sandbox]) -> None:
    need(vm_place, "usr/lib/python*/site-packages/numpy")
    require_different([{"numpy": text} for text in said(clones[:WITH_NUMPY], "python3", "-c", NUMPY)])


@pytest.mark.slow
def test_the_clock_of_a_clone_is_right(clones: list[Sandbox]) -> None:
    for clone in clones[:: CLONES // 4]:
        before = time.time()
        inside = float(clone.exec("date", "+%s.%N", check=True).stdout)
        assert before - CLOCK_SECONDS < inside < time.time() + CLOCK_SECONDS


@pytest.mark.slow
def test_the_kernels_name_of_a_boot_is_drawn_when_it_is_first_read(node: VmNode, clones: list[Sandbox]) -> None:
    """So clones have each their own, and a fork that of its parent if anybody has read that: nothing can change it."""
    read = "cat", "/proc/sys/kernel/random/boot_id"
    require_different([{"boot": text} for text in said(clones[:3], *read)])
    (child,) = node.forked(clones[0])
    assert len(set(said([clones[0], child], *read))) == 1


@pytest.mark.slow
def test_forks_of_one_that_has_drawn_already_draw_something_else(vm_place: VmPlace, node: VmNode) -> None:
    modules = "random, uuid, secrets, os, ssl, tempfile, json"
    draw = (
        "print(json.dumps({'random': random.random(), 'uuid1': str(uuid.uuid1()), 'uuid4': str(uuid.uuid4()),"
        " 'secrets': secrets.token_hex(16), 'urandom': os.urandom(8).hex(), 'ssl': ssl.RAND_bytes(16).hex(),"
        " 'temporary': next(tempfile._get_candidate_names())}))"
    )
    if list(vm_place.directory.glob("usr/lib/python*/site-packages/numpy")):
        modules += ", numpy"
        draw = draw.replace("print(json.dumps({", "print(json.dumps({'numpy': numpy.random.random(), ")
    parent = node.create()
    parent.run_code(f"import {modules}\nkept = 41\nrandom.seed(1)", timeout_seconds=100)
    parent.run_code(draw, timeout_seconds=100)
    children = node.forked(parent, FORKS)
    found = [each.run_code(draw, timeout_seconds=100) for each in (parent, *children)]
    require_different([json.loads(each.stdout) for each in found])
    assert [each.run_code("kept + 1").text for each in children] == ["42"] * FORKS


@pytest.mark.slow
def test_forks_are_told_their_own_names(node: VmNode) -> None:
    parent = node.create()
    counting = parent.spawn("bash", "-c", 'echo $SRANDOM; read line; echo $SRANDOM "$(hostname)"', stdin=True)
    first = next(counting.stdout)
    children = node.forked(parent, FORKS)
    answers = []
    for each in (parent, *children):
        process = each.process(counting.id)
        process.write_stdin("go\n")
        answers.append(b"".join(process.stdout).decode().split())
    assert {before for before, *_ in answers} == {first.decode().strip()}
    require_different([{"drawn": drawn, "name": name} for _, drawn, name in answers])
    assert [name for *_, name in answers] == [each.id.replace("_", "-") for each in (parent, *children)]
