"""The door of virtual machines: every stream to a guest goes through the node, and forks go on with what their parent
may reach."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cloche import Sandbox
from tests.integration.egress_world import NAME, OTHER, World, egress_world
from tests.integration.vm_node import VmNode, vm_node_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
VALUE = "value-of-a-machine"
#: without a proxy, as a program that knows of none
FETCH = """
import os, ssl, sys, urllib.request
# the small image of the tests has no authorities of its own
given = "/etc/cloche/authority.pem"
trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=given if os.path.exists(given) else None))
if sys.argv[2] == "direct":
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
else:
    opener = urllib.request.build_opener(trust)
request = urllib.request.Request(sys.argv[1])
if "TOKEN" in os.environ:
    request.add_header("Authorization", "Bearer " + os.environ["TOKEN"])
try:
    print(opener.open(request, timeout=60).read().decode(), end="")
except OSError as error:
    print("failed:", error)
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with egress_world() as made:
        yield made


@pytest.fixture(scope="module")
def node(vm_place, world, tmp_path_factory) -> Iterator[VmNode]:
    with vm_node_in(vm_place, vm_place.home(tmp_path_factory.mktemp("vm") / "home")) as made:
        yield made


def fetched(box: Sandbox, url: str, how: str = "proxy") -> str:
    done = box.exec("python3", "-c", FETCH, url, how, timeout_seconds=120)
    return done.stdout + done.stderr


def test_a_machine_reaches_what_its_policy_says(node, world):
    box = node.create(net=world.net)
    assert fetched(box, f"{world.url}/a") == "hello /a\n"
    if box.egress().transparent_tcp:
        assert fetched(box, f"{world.url}/b", "direct") == "hello /b\n"
    assert "failed" in fetched(box, f"http://{OTHER}:{world.plain}/")
    box.set_policy(None)
    assert "failed" in fetched(box, f"{world.url}/")
    box.remove()


SEND = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.connect((sys.argv[1], 443))
try:
    one.send(b"?")
    one.settimeout(60)
    one.recv(1)
except OSError as error:
    print(error.strerror)
"""


def test_a_refused_datagram_is_seen_also_of_a_fork(node, world, vm_place):
    if not json.loads((vm_place.shared / "vm" / "assets.json").read_text()).get("refusals"):
        pytest.skip("this kernel does not tell of refused packets")
    box = node.create(net=world.net)
    (child,) = node.forked(box)
    for number, each in enumerate((box, child)):
        host = f"192.0.2.{number}"
        assert each.exec("python3", "-c", SEND, host, timeout_seconds=120).stdout == "Connection refused\n"
        found = []
        while not found:
            # written beside all this, so a moment later
            found = [line for line in each.egress_log(verdicts=["denied"]) if line.via == "inside"]
        assert [(line.host, line.port, line.rule) for line in found] == [(host, 443, "no-udp")]
        each.remove()


def test_forks_go_on_with_policy_and_secrets(node, world):
    box = node.create(net=world.net, secrets=[(f"TOKEN@{NAME}", VALUE)])
    world.seen.clear()
    assert fetched(box, f"https://{NAME}:{world.tls}/parent") == "hello /parent\n"
    (child,) = node.forked(box)
    assert fetched(child, f"https://{NAME}:{world.tls}/child") == "hello /child\n"
    assert world.seen == [f"Bearer {VALUE}"] * 2
    child.set_policy(None)
    assert "failed" in fetched(child, f"https://{NAME}:{world.tls}/child")
    assert fetched(box, f"https://{NAME}:{world.tls}/parent") == "hello /parent\n"
    for each in (child, box):
        each.remove()


def test_one_that_was_suspended_is_as_before(node, world):
    box = node.create(net=world.net)
    box.suspend()
    box.resume()
    assert fetched(box, f"{world.url}/again") == "hello /again\n"
    box.remove()
