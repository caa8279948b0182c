"""Every kind of socket that a program can make, and every trick with one: what can be reached are the sandbox's own
servers and its guest, and nothing else, on each engine and by each user inside."""

from __future__ import annotations

import asyncio
import functools
import json
import secrets
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloche.engines.base import Engine
from cloche.engines.bench import Sandbox, bench
from cloche.engines.namespace.engine import NamespaceEngine
from cloche.engines.vm.engine import VmEngine
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec
from tests.security.conftest import HERE
from tests.vm_root import VmPlace

INSIDE = "/var/tmp/families.py"
#: what any user's program may make in a kernel of its own, where no filter stands before the calls
IN_A_KERNEL_OF_ITS_OWN = {
    "udplite", "udplite6", "netlink_netfilter", "netlink_generic", "netlink_xfrm", "netlink_sock_diag",
}  # fmt: skip
ENDED = {"ECONNRESET", "ECONNREFUSED", "EPIPE", "closed"}
Found = dict[str, Any]


async def look(build: Callable[[Path], Engine], home: Path, image: str) -> dict[str, Found] | None:
    """By user; root comes last and may change the place. None: this engine cannot redirect here."""
    mark = f"cloche-probe-{secrets.token_hex(6)}"
    spec = SandboxSpec(image=image, limits=Limits(memory_mib=192, disk_mib=64))
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{mark}")
        abstract.listen()
        async with bench(build, home) as boxes:
            if not boxes.capabilities.transparent_tcp:
                return None
            sandbox = await boxes.create(spec)
            await sandbox.guest.write_file(INSIDE, (HERE / "families.py").read_bytes(), mode=0o644)
            return {user: await attack(sandbox, mark, user) for user in ("user", "root")}


async def attack(sandbox: Sandbox, mark: str, user: str) -> Found:
    before = {(each.host, each.port, each.protocol): each.count for each in await sandbox.guest.egress_attempts()}
    done = await sandbox.exec("python3", "-I", "-B", INSIDE, mark, user=user)
    assert done.info.exit_code == 0, done.stderr.decode()
    attempts = [
        f"{each.host} {each.port}"
        for each in await sandbox.guest.egress_attempts()
        if each.count > before.get((each.host, each.port, each.protocol), 0)
    ]
    return {**json.loads(done.stdout), "attempts": attempts}


@functools.cache
def in_namespaces() -> dict[str, Found] | None:
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(look(NamespaceEngine, Path(home, "home"), "host"))


@functools.cache
def in_a_machine(place: VmPlace) -> dict[str, Found] | None:
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(look(VmEngine, place.home(Path(home, "home")), str(place.directory)))


@pytest.fixture(params=["namespace-user", "namespace-root", pytest.param("vm-user", marks=pytest.mark.slow),
                        pytest.param("vm-root", marks=pytest.mark.slow)])  # fmt: skip
def attacker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def found(attacker: str, request: pytest.FixtureRequest) -> Found:
    engine, user = attacker.split("-")
    places = [] if engine == "namespace" else [request.getfixturevalue("vm_place")]
    got = in_a_machine(*places) if places else in_namespaces()
    if got is None:
        pytest.skip(f"the {engine} engine cannot redirect connections here: cloche doctor")
    return got[user]


def test_no_other_kind_of_socket_is_made(attacker: str, found: Found) -> None:
    made = {name for name, outcome in found["kinds"].items() if outcome == "made"}
    if attacker.startswith("namespace"):
        assert made == set()
    elif attacker == "vm-user":
        assert made <= IN_A_KERNEL_OF_ITS_OWN
    # root of a machine has its kernel, but nothing in it leads to the host
    assert not made & {"vsock", "vsock_dgram"}
    assert found["interfaces"] == ["lo"]


def test_every_connection_arrives_at_the_guest(attacker: str, found: Found) -> None:
    outcomes = dict(found["connections"])
    routed, _ = outcomes.pop("source_routed")
    assert routed == "EPERM" or (attacker == "vm-root" and routed in ENDED | {"TimeoutError"})
    if found["alone"]:
        assert [name for name, (heard, where) in outcomes.items() if heard != where] == []
        return
    # the guest has the port, knows where each was going, and ends what nobody has opened
    assert {name for name, (heard, _) in outcomes.items() if heard not in ENDED} == set()
    assert {where for _, where in outcomes.values()} <= set(found["attempts"])


def test_its_own_servers_are_left_alone(found: Found) -> None:
    outcomes = dict(found["own"])
    assert outcomes.pop("nobody") == "ECONNREFUSED"
    assert set(outcomes.values()) == {"mine"}


def test_datagrams_go_to_its_own_servers_and_the_resolver_only(found: Found) -> None:
    outcomes = dict(found["datagrams"])
    assert outcomes.pop("own") == outcomes.pop("own_address") == "heard question"
    assert set(outcomes.values()) == {"ECONNREFUSED"}
    assert set(found["questions"]) == {"answer of 203.0.113.9 53"}


def test_nobody_answers_a_ping(found: Found) -> None:
    assert found["ping"] in ("EACCES", "EPERM", "EPROTONOSUPPORT")
    assert found["ping6"] in ("EACCES", "EPERM", "EPROTONOSUPPORT", "TimeoutError")


def test_nothing_of_it_can_be_changed(attacker: str, found: Found) -> None:
    if attacker == "vm-root":
        pytest.skip("root of a machine may do in its kernel what it likes; there is no way out of it")
    refused = {"EPERM", "EAFNOSUPPORT"}
    assert set(found["changes"].values()) <= refused
    assert found["mark"] == "EPERM" and found["transparent"] == "EPERM"


def test_an_abstract_socket_of_the_host_is_not_there(found: Found) -> None:
    assert found["abstract"] == "ECONNREFUSED"
