"""kill -9 of the node: sandboxes, processes, output, input and deadlines outlive it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import NodeUnreachableError, NotFoundError, Output, Sandbox, SandboxDeadError
from cloche.model.process import PtySize
from tests.integration.bad_luck import CLI, cloche, everything, kill_node, until

#: numbered lines on both streams, a burst for each line of input
TALKER = """
import sys
number = 0
for line in sys.stdin:
    for _ in range(int(line)):
        number += 1
        sys.stdout.write(f"out {number}\\n")
        sys.stderr.write(f"err {number}\\n")
    sys.stdout.flush()
print("end")
"""
BURST = 20_000


def lines(word: str, count: int) -> bytes:
    return b"".join(b"%s %d\n" % (word.encode(), number) for number in range(1, count + 1))


def test_a_process_goes_on_over_three_nodes(real_home: Path, sandbox: Sandbox) -> None:
    process = sandbox.spawn("python3", "-c", TALKER, stdin=True)
    followed: list[bytes] = []
    reader = threading.Thread(target=lambda: followed.extend(process.stdout))
    reader.start()
    again = sandbox.process(process.id)
    for _ in range(3):
        again.write_stdin(f"{BURST}\n")
        kill_node(real_home)
    again.close_stdin()
    assert again.wait(60).exit_code == 0
    reader.join(60)
    assert b"".join(followed) == lines("out", 3 * BURST) + b"end\n"
    kill_node(real_home)
    late = Sandbox.from_id(sandbox.id).process(process.id)
    assert everything(late) == (lines("out", 3 * BURST) + b"end\n", lines("err", 3 * BURST))


def test_a_node_that_dies_in_the_middle_of_a_stream_costs_no_byte(real_home: Path, sandbox: Sandbox) -> None:
    count = 300_000
    program = "import sys\nfor n in range(int(sys.argv[1])): sys.stdout.write(f'out {n + 1}\\n')"
    process = sandbox.spawn("python3", "-c", program, str(count))
    got, killed = bytearray(), 0
    for event in process.output():
        if isinstance(event, Output):
            assert event.offset == len(got)
            got += event.data
            if killed < 3 and len(got) > (killed + 1) * 500_000:
                killed += 1
                kill_node(real_home)
    assert killed == 3 and bytes(got) == lines("out", count)


def test_a_terminal_outlives_the_node(real_home: Path, sandbox: Sandbox) -> None:
    process = sandbox.spawn("sh", "-c", "stty -echo; echo ready; read a; echo got-$a; stty size", pty=PtySize(10, 20))
    seen = b""
    for event in process.output():
        if isinstance(event, Output):
            seen += event.data
            if b"ready" in seen and b"got" not in seen:
                kill_node(real_home)
                process.resize(30, 90)
                process.write_stdin("typed\n")
    assert seen.split() == [b"ready", b"got-typed", b"30", b"90"]


def test_the_rest_of_life_works_after_it(real_home: Path) -> None:
    with Sandbox.create(name="survivor", labels={"a": "b"}) as box:
        box.files.write("kept", "over it all")
        running = box.spawn("sleep", "1000")
        kill_node(real_home)
        found = Sandbox.from_id("survivor")
        assert (found.id, found.info().state, found.info().labels) == (box.id, "running", {"a": "b"})
        assert [(info.id, info.state) for info in found.processes()] == [(running.id, "running")]
        running.signal("TERM")
        assert running.wait(30).signal == 15
        assert found.stop(grace_seconds=0).state == "stopped"
        kill_node(real_home)
        found.start()
        assert found.files.read("kept") == "over it all"
    with pytest.raises(NotFoundError):
        box.info()


def test_time_to_live_holds_without_and_with_the_next_node(real_home: Path) -> None:
    box = Sandbox.create(ttl_seconds=2)
    process = box.spawn("sleep", "1000")
    kill_node(real_home)
    box.info()
    with pytest.raises(SandboxDeadError):
        for _ in process.output():
            pass
    until(lambda: box.id not in {info.id for info in Sandbox.list()}, "the expired sandbox is gone")
    left = Sandbox.create(ttl_seconds=1)
    supervisor = real_home / "run" / left.id / "exit.json"
    kill_node(real_home)
    until(supervisor.exists, "its supervisor ends it while no node lives")
    with pytest.raises(NotFoundError):
        left.info()


def test_a_write_that_breaks_off_leaves_the_old_file(real_home: Path, sandbox: Sandbox) -> None:
    sandbox.files.write("file", "as it was")

    def pieces() -> Iterator[bytes]:
        yield b"x" * (4 << 20)
        kill_node(real_home)
        yield b"x"

    with pytest.raises(NodeUnreachableError):
        sandbox.files.write_stream("file", pieces())
    assert sandbox.files.read("file") == "as it was"
    until(lambda: [info.name for info in sandbox.files.list()] == ["file"], "nothing half-written is left")
    assert sandbox.files.write("file", "new").size == 3


def test_a_copy_in_that_breaks_off_can_be_done_again(real_home: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number:02}").write_bytes(os.urandom(1 << 20))
    archive = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True, check=True).stdout
    copy = subprocess.Popen([*CLI, "cp", "-", f"{sandbox.id}:tree"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert copy.stdin is not None
    copy.stdin.write(archive[: 10 << 20])
    copy.stdin.flush()
    until(lambda: sandbox.files.exists("tree/03"), "the copy has begun")
    kill_node(real_home)
    _, said = copy.communicate(archive[10 << 20 :], timeout=60)
    assert copy.returncode == 125 and said.startswith(b"cloche: ") and b"Traceback" not in said
    assert cloche("cp", str(tree) + "/", f"{sandbox.id}:again").returncode == 0
    assert cloche("cp", f"{sandbox.id}:again", str(tmp_path / "back")).returncode == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == {
        path.name: path.read_bytes() for path in tree.iterdir()
    }


def test_a_copy_out_that_breaks_off_leaves_nothing_half(real_home: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    # zeros take no room on the host: the first bytes show that it has begun, the rest takes a while
    sandbox.exec("sh", "-c", "echo begun > large; truncate -s 64G large", check=True)
    copy = subprocess.Popen([*CLI, "cp", f"{sandbox.id}:large", str(tmp_path / "large")], stderr=subprocess.PIPE)
    until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()), "the copy has begun")
    kill_node(real_home)
    said = copy.communicate(timeout=60)[1]
    assert copy.returncode == 125 and said.startswith(b"cloche: ") and b"Traceback" not in said
    assert not list(tmp_path.iterdir())
    assert sandbox.exec("stat", "-c", "%s", "large").stdout == f"{64 << 30}\n"
