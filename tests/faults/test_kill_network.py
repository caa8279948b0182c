"""kill -9 of the node, or of its door, while several clients change what sandboxes may reach, and while they reach it:
afterwards each reaches what its row says, and nothing else; nothing of the dead is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloche import Sandbox
from cloche.model.errors import ClocheError
from tests.integration.egress_world import NAME, OTHER, World
from tests.integration.node_harness import end_node, wait_for_exit
from tests.integration.test_egress_node import door_of, fetched, until_fetched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PORT = 8000
CLIENTS = 3
#: what a client does between two looks at the clock of the killer
STEPS = 4


@pytest.mark.parametrize("victim", ["node", "door", "both"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_reached_is_what_the_rows_say(home: Path, world: World, seed: int, victim: str) -> None:
    chance = random.Random(f"{seed} {victim}")
    remove_all()
    boxes = [Sandbox.create(net=net) for net in (world.net, None, OTHER)]
    door = door_of(home)
    ready = threading.Barrier(CLIENTS + 1)
    with ThreadPoolExecutor(CLIENTS) as clients:
        work = [clients.submit(disturb, boxes, world, ready, chance.random()) for _ in range(CLIENTS)]
        ready.wait()
        for _ in range(chance.randrange(60)):
            # some of what they do is done, other things are not
            Sandbox.list()
        if victim != "node":
            os.kill(door, signal.SIGKILL)
        if victim != "door":
            end_node(home, signal.SIGKILL)
        for each in work:
            each.result()
    wait_for_exit(door)
    for box in boxes:
        look(Sandbox.from_id(box.id), world)
    remove_all()
    assert list((home / "run").iterdir()) == [] == list((home / "sandboxes").iterdir())


def disturb(boxes: list[Sandbox], world: World, ready: threading.Barrier, seed: float) -> None:
    chance = random.Random(seed)
    ready.wait()
    for _ in range(STEPS * len(boxes)):
        with contextlib.suppress(ClocheError):
            change(chance, chance.choice(boxes), world)


def change(chance: random.Random, box: Sandbox, world: World) -> None:
    match chance.randrange(7):
        case 0:
            box.set_policy(world.net)
        case 1:
            box.set_policy(None)
        case 2:
            box.set_policy(OTHER)
        case 3:
            box.publish(PORT)
        case 4:
            box.unpublish(PORT)
        case 5:
            box.stop(grace_seconds=0.1)
            box.start()
        case 6:
            fetched(box, f"{world.url}/", "-m", "2")


def look(box: Sandbox, world: World) -> None:
    """Row, guest and door agree, by the proxy and without."""
    if box.info().state != "running":
        box.start()
    policy = box.egress().policy
    hosts = None if policy is None else policy.rules[0].hosts
    said = [fetched(box, f"{world.url}/", *way) for way in ((), ("--noproxy", "*"))]
    if hosts == [NAME]:
        until_fetched(box, f"{world.url}/")
    else:
        assert "hello" not in "".join(said)
        assert ("egress_denied" in said[0]) == (hosts == [OTHER]), (hosts, said)
    for published in box.publications():
        place = published.url.removeprefix("http://")
        assert b" 502 " in answer(place), "nothing listens there, and the door says so"


def answer(place: str) -> bytes:
    """The first line that the door says for this name."""
    port = int(place.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
        return sock.recv(65536).partition(b"\r\n")[0]


def remove_all() -> None:
    for info in Sandbox.list():
        Sandbox.from_id(info.id).remove()
