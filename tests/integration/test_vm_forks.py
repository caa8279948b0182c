"""Forks, suspension and snapshots of machines in the middle of their work, through a node."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloche import Node, Sandbox
from cloche.model.errors import ClocheError, EngineError, UnavailableError
from tests.integration.node_harness import end_node
from tests.integration.vm_node import VmNode, vm_node_in
from tests.vm_root import VmPlace

pytestmark = pytest.mark.slow

#: counts in its own memory, answers each line with the count and what it reads on from an open file
COUNTER = """
number=0
exec 3< lines
while read -r word; do
    number=$((number + 1)); read -r line <&3; echo "$word $number $line"
done
"""
LINES = "".join(f"line{number}\n" for number in range(1, 9))
CLOCK_SECONDS = 2.0


@pytest.fixture(scope="module")
def node(vm_place: VmPlace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmNode]:
    with vm_node_in(vm_place, vm_place.home(tmp_path_factory.mktemp("node") / "home")) as made:
        yield made


@pytest.fixture(autouse=True)
def cleared(node: VmNode) -> Iterator[None]:
    yield
    for snapshot in Node().snapshots.list():
        Node().snapshots.remove(snapshot.id)
    node.clear()


class Counter:
    """A process that counts what it is told; how far it has come is in its memory, and in an open file of it."""

    def __init__(self, sandbox: Sandbox) -> None:
        sandbox.files.write("lines", LINES)
        self.id = sandbox.spawn("bash", "-c", COUNTER, stdin=True).id

    def says(self, sandbox: Sandbox, word: str) -> str:
        """What it answers in this sandbox."""
        process = sandbox.process(self.id)
        process.write_stdin(f"{word}\n")
        read = b""
        for piece in process.stdout:
            read += piece
            last = read.decode().splitlines()[-1]
            if read.endswith(b"\n") and last.startswith(f"{word} "):
                return last
        raise AssertionError(f"it ended after {read!r}")


def clock_is_right(sandbox: Sandbox) -> bool:
    before = time.time()
    inside = float(sandbox.exec("date", "+%s.%N", check=True).stdout)
    return before - CLOCK_SECONDS < inside < time.time() + CLOCK_SECONDS


def test_forks_are_at_the_same_point_and_the_parent_goes_on(node: VmNode) -> None:
    parent = node.create()
    counter = Counter(parent)
    parent.run_code("state = [1]")
    assert counter.says(parent, "before") == "before 1 line1"
    children = node.forked(parent, 3)
    for each in (*children, parent):
        assert counter.says(each, each.id) == f"{each.id} 2 line2"
        assert each.run_code("state.append(2); state").text == "[1, 2]"
        each.files.write("own", each.id)
    for each in (*children, parent):
        assert each.files.read("own") == each.id
        assert clock_is_right(each)
    assert [child.info().parent_id for child in children] == [parent.id] * 3
    assert parent.info().state == "running"


def test_forks_of_forks_have_what_was_there_when_each_was_made(node: VmNode) -> None:
    each = node.create()
    counter = Counter(each)
    family = [each]
    for generation in range(1, 4):
        assert counter.says(each, f"g{generation}").split()[1] == str(generation)
        each.files.write(f"of-{generation}", "x" * 100_000)
        (each,) = node.forked(each)
        family.append(each)
    for generation, member in enumerate(family):
        there = {info.name for info in member.files.list() if info.name.startswith("of-")}
        assert there == {f"of-{number}" for number in range(1, min(generation + 1, 3) + 1)}
    # the first goes, and everybody else stays what they are
    family[0].remove()
    family[1].remove()
    assert counter.says(family[3], "end") == "end 4 line4"
    assert counter.says(family[2], "end") == "end 4 line4"


def test_forks_of_one_that_works_meanwhile_are_whole(node: VmNode) -> None:
    """It writes and checks a file all the time: each copy goes on with it and never finds it half written."""
    parent = node.create()
    code = (
        "number=0; while :; do number=$((number+1)); seq $number 2000 > a; sha256sum a > b; sha256sum --quiet -c b"
        " || echo bad; echo $number > c; done"
    )
    busy = parent.spawn("bash", "-c", code)
    while not parent.files.exists("c"):
        parent.exec("true")
    for _ in range(2):
        for child in node.forked(parent, 2):
            goes_on_whole(child, busy.id)
    goes_on_whole(parent, busy.id)


def goes_on_whole(sandbox: Sandbox, process_id: str) -> None:
    """Its work goes on from where it was and has found nothing half written; ends it."""
    reached = int(sandbox.exec("cat", "c", check=True).stdout or "0")
    while int(sandbox.exec("cat", "c", check=True).stdout or "0") <= reached:
        pass
    process = sandbox.process(process_id)
    process.kill()
    assert b"".join(process.stdout) + b"".join(process.stderr) == b""


def test_many_forks_side_by_side(node: VmNode) -> None:
    parents = node.many(2)
    with ThreadPoolExecutor(2) as pool:
        families = list(pool.map(lambda parent: node.forked(parent, 3), parents))
    assert len({child.id for family in families for child in family}) == 6
    for parent, family in zip(parents, families, strict=True):
        assert all(child.exec("hostname", check=True).stdout.strip() == child.id.replace("_", "-") for child in family)
        assert parent.exec("echo", "on").stdout == "on\n"


def test_a_fork_of_a_paused_machine_runs(node: VmNode) -> None:
    parent = node.create()
    counter = Counter(parent)
    counter.says(parent, "a")
    parent.pause()
    (child,) = node.forked(parent)
    assert parent.info().state == "paused"
    assert counter.says(child, "child") == "child 2 line2"
    parent.resume()
    assert counter.says(parent, "parent") == "parent 2 line2"
    assert clock_is_right(parent)


def test_what_is_suspended_goes_on_as_if_nothing_had_been(node: VmNode) -> None:
    sandbox = node.create()
    counter = Counter(sandbox)
    sandbox.run_code("import random; state = 41")
    boot = sandbox.exec("cat", "/proc/sys/kernel/random/boot_id").stdout
    for turn in (1, 2, 3):
        assert counter.says(sandbox, f"w{turn}") == f"w{turn} {turn} line{turn}"
        assert sandbox.suspend().state == "suspended"
        assert not (node.home / "run" / sandbox.id).exists()
        assert sandbox.resume().state == "running"
        assert sandbox.run_code("state += 1; state").text == str(41 + turn)
        assert clock_is_right(sandbox)
    assert sandbox.exec("cat", "/proc/sys/kernel/random/boot_id").stdout == boot


def test_what_is_suspended_outlives_its_node(node: VmNode) -> None:
    sandbox = node.create()
    counter = Counter(sandbox)
    assert counter.says(sandbox, "a") == "a 1 line1"
    sandbox.suspend()
    end_node(node.home)
    assert sandbox.resume().state == "running"
    assert counter.says(sandbox, "b") == "b 2 line2"


def test_a_snapshot_is_begun_from_many_times(node: VmNode) -> None:
    sandbox = node.create()
    counter = Counter(sandbox)
    counter.says(sandbox, "a")
    sandbox.snapshot(name="base")
    sandbox.remove()
    for _ in range(2):
        again = Sandbox.create(snapshot="base")
        assert counter.says(again, "b") == "b 2 line2"
        assert again.exec("hostname").stdout.strip() == again.id.replace("_", "-")
        assert clock_is_right(again)
    assert Node().snapshots.verify("base").name == "base"


def test_a_snapshot_needs_neither_its_parent_nor_its_template(vm_place: VmPlace, tmp_path: Path) -> None:
    home = vm_place.alone(tmp_path / "home")
    with vm_node_in(vm_place, home) as node:
        sandbox = node.create()
        counter = Counter(sandbox)
        counter.says(sandbox, "a")
        sandbox.snapshot(name="base")
        sandbox.remove()
        for template in (home / "vm" / "templates").iterdir():
            for path in template.iterdir():
                path.unlink()
        assert counter.says(Sandbox.create(snapshot="base"), "b") == "b 2 line2"
        end_node(home)
        assert counter.says(Sandbox.create(snapshot="base"), "b") == "b 2 line2"
        Node().snapshots.remove("base")


def test_a_snapshot_travels(node: VmNode) -> None:
    sandbox = node.create()
    counter = Counter(sandbox)
    counter.says(sandbox, "a")
    made = sandbox.snapshot(name="base")
    copy = Node().snapshots.add(iter(list(Node().snapshots.export("base"))), name="copy")
    assert copy.files == made.files
    Node().snapshots.remove("base")
    assert counter.says(Sandbox.create(snapshot="copy"), "b") == "b 2 line2"


@pytest.mark.parametrize("name", ["memory", "pages", "devices", "disk"])
def test_a_damaged_file_is_named_and_nothing_begins_from_it(node: VmNode, name: str) -> None:
    node.create().snapshot(name="base")
    path = next((node.home / "snapshots").glob(f"*/{name}"))
    # the file itself may be the template's too
    copied = path.with_suffix(".copy")
    subprocess.run(["cp", "--sparse=always", path, copied], check=True)
    copied.rename(path)
    path.chmod(0o600)
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    with pytest.raises(EngineError) as refused:
        Node().snapshots.verify("base")
    assert refused.value.details.get("file") == name or name in refused.value.message
    path.unlink()
    with pytest.raises(EngineError) as refused:
        Sandbox.create(snapshot="base")
    assert name in refused.value.message
    assert Sandbox.list() == [] or [info.state for info in Sandbox.list()] == ["running"]


@pytest.mark.parametrize(("field", "word"), [("qemu", "QEMU"), ("kernel", "kernel"), ("cpu", "processor")])
def test_what_another_machine_captured_is_refused_with_the_reason(node: VmNode, field: str, word: str) -> None:
    node.create().snapshot(name="base")
    archive = b"".join(Node().snapshots.export("base"))
    with pytest.raises(UnavailableError) as refused:
        Node().snapshots.add([as_if_of(archive, field)], name="foreign")
    assert word in refused.value.message
    assert [each.name for each in Node().snapshots.list()] == ["base"]


def as_if_of(archive: bytes, field: str) -> bytes:
    """The same snapshot, captured where this is another."""
    found = re.search(rb'"%s":\s*"([^"]+)"' % field.encode(), archive)
    assert found is not None
    return archive.replace(found[1], b"0" * len(found[1]))


def test_a_capture_that_fails_leaves_the_parent_as_it_was(node: VmNode) -> None:
    sandbox = node.create()
    counter = Counter(sandbox)
    places = [node.home / "snapshots", node.home / "captures"]
    for place in places:
        place.mkdir(exist_ok=True)
    counter.says(sandbox, "a")
    machine = node.home / "run" / sandbox.id / "machine.json"
    kept = machine.read_bytes()
    machine.write_bytes(b"{}")
    for attempt in (lambda: sandbox.snapshot(name="no"), lambda: sandbox.fork(2), sandbox.suspend):
        with pytest.raises(ClocheError):
            attempt()
        assert sandbox.info().state == "running"
    machine.write_bytes(kept)
    assert counter.says(sandbox, "b") == "b 2 line2"
    assert [path for place in places for path in place.iterdir()] == []
