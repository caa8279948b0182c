"""kill -9 of a node while machines with policies are forked and suspended: what lives reaches what its row says, what
sleeps reaches it when it wakes, and nobody reaches more."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import pytest

from cloche import Sandbox
from cloche.model.errors import ClocheError
from tests.integration.egress_world import OTHER, World, egress_world
from tests.integration.node_harness import end_node
from tests.integration.test_egress_vm import fetched
from tests.integration.vm_node import VmNode, vm_node_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with egress_world() as made:
        yield made


@pytest.fixture(scope="module")
def node(vm_place, world, tmp_path_factory) -> Iterator[VmNode]:
    with vm_node_in(vm_place, vm_place.home(tmp_path_factory.mktemp("vm") / "home")) as made:
        yield made


def look(box: Sandbox, world: World) -> None:
    state = box.info().state
    if state == "suspended":
        box.resume()
    elif state != "running":
        return
    policy = box.egress().policy
    allowed = policy is not None and OTHER not in policy.rules[0].hosts
    assert (fetched(box, f"{world.url}/") == "hello /\n") == allowed, policy


@pytest.mark.parametrize("milliseconds", [5, 60, 250, 900])
@pytest.mark.parametrize("operation", ["fork", "suspend"])
def test_a_kill_meanwhile_opens_nothing(node: VmNode, world: World, operation: str, milliseconds: int) -> None:
    open_one, other = node.create(net=world.net), node.create(net=OTHER)

    def work() -> None:
        for box in (open_one, other):
            with contextlib.suppress(ClocheError):
                node.forked(box, 2) if operation == "fork" else box.suspend()

    begun = threading.Thread(target=work)
    begun.start()
    # where it falls is a matter of chance; what holds afterwards is not
    begun.join(milliseconds / 1000)
    end_node(node.home, signal.SIGKILL)
    begun.join()
    for info in Sandbox.list():
        look(Sandbox.from_id(info.id), world)
    node.clear()
