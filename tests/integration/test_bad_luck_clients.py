"""Clients that are killed, and clients that want the same thing at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloche import NotFoundError, Sandbox
from tests.integration.bad_luck import CLI, everything, read_until
from tests.integration.node_harness import ask

#: says a line for each line that appears in a file: what it does next is the test's to say
ECHO_FILE = "mkfifo go; echo begun; while :; do cat go; done"
CLIENTS = 8

FOLLOWING = """
import os, sys
from cloche import Sandbox
box = Sandbox.from_id(sys.argv[1])
{start}
"""
EXEC = 'box.exec("sh", "-c", sys.argv[2], on_stdout=lambda data: os.write(1, data))'
SPAWN = 'for data in box.spawn("sh", "-c", sys.argv[2]).stdout: os.write(1, data)'


def python(start: str) -> list[str]:
    return [sys.executable, "-c", FOLLOWING.format(start=start)]


CLIENT_KINDS: dict[str, Callable[[str], list[str]]] = {
    "sdk exec": lambda box: [*python(EXEC), box, ECHO_FILE],
    "sdk spawn": lambda box: [*python(SPAWN), box, ECHO_FILE],
    "cloche exec": lambda box: [*CLI, "exec", box, "--", "sh", "-c", ECHO_FILE],
}


@pytest.mark.parametrize("kind", CLIENT_KINDS)
def test_a_client_that_is_killed_takes_nothing_with_it(sandbox: Sandbox, kind: str) -> None:
    client = subprocess.Popen(CLIENT_KINDS[kind](sandbox.id), stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert read_until(client.stdout.fileno(), b"begun\n") == b"begun\n"
    client.kill()
    assert client.wait(30) == -9
    (known,) = sandbox.processes()
    assert known.state == "running"
    sandbox.exec("sh", "-c", "seq 1 50000 > go", check=True)
    process = sandbox.process(known.id)
    wanted = b"begun\n" + b"".join(b"%d\n" % number for number in range(1, 50001))
    seen = b""
    for data in process.stdout:
        seen += data
        if len(seen) >= len(wanted):
            process.kill()
    assert seen == wanted
    assert everything(sandbox.process(known.id))[0] == wanted
    assert process.wait(30).signal == 9
    client.stdout.close()


def test_a_killed_run_leaves_its_sandbox_to_be_found(real_home: Path) -> None:
    client = subprocess.Popen([*CLI, "run", "--", "sh", "-c", "echo begun; sleep 1000"], stdout=subprocess.PIPE)
    assert client.stdout is not None
    read_until(client.stdout.fileno(), b"begun\n")
    client.kill()
    client.wait(30)
    client.stdout.close()
    (left,) = Sandbox.list(labels={"cloche.run": None})
    Sandbox.from_id(left.id).remove()


def at_once(work: Callable[[int], tuple[int, object]]) -> list[tuple[int, object]]:
    """`work` in several threads, let go together."""
    barrier, found = threading.Barrier(CLIENTS), []

    def one(number: int) -> None:
        barrier.wait(30)
        found.append(work(number))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_many_create_the_same_name(real_home: Path) -> None:
    before = set(os.listdir(real_home / "run"))
    answers = at_once(lambda number: ask(real_home, "POST", "/v1/sandboxes", {"name": "wanted", "env": {"N": "1"}}))
    assert sorted(status for status, _ in answers) == [201] + [409] * (CLIENTS - 1)
    assert {body["error"]["code"] for status, body in answers if status == 409} == {"already_exists"}
    (made,) = [body for status, body in answers if status == 201]
    assert [info.id for info in Sandbox.list() if info.name == "wanted"] == [made["id"]]
    assert set(os.listdir(real_home / "run")) - before == {made["id"]}
    assert Sandbox.from_id("wanted").exec("printenv", "N").stdout == "1\n"
    answers = at_once(lambda number: ask(real_home, "DELETE", "/v1/sandboxes/wanted?force=1"))
    assert {status for status, _ in answers} <= {204, 404} and (204, b"") in answers
    assert set(os.listdir(real_home / "run")) == before
    with pytest.raises(NotFoundError):
        Sandbox.from_id("wanted")
