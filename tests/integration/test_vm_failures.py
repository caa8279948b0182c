"""Machines that end badly, code inside that does its worst, and files that are changed under them: who is at fault is
told, everybody else goes on, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloche import Sandbox
from cloche.engines.vm import bundle
from cloche.model.errors import ClocheError
from cloche.model.events import Event
from tests.integration.node_harness import end_node, node_pid, wait_for_exit
from tests.integration.vm_node import VmNode, vm_node_in
from tests.vm_root import VmPlace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(vm_place: VmPlace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmNode]:
    with vm_node_in(vm_place, vm_place.home(tmp_path_factory.mktemp("node") / "home")) as made:
        yield made


@pytest.fixture(autouse=True)
def cleared(node: VmNode) -> Iterator[None]:
    yield
    node.clear()


def written(node: VmNode, sandbox: Sandbox) -> dict[str, int]:
    """What the supervisor has written down: its own pid, and QEMU's."""
    return dict(json.loads((node.home / "run" / sandbox.id / "supervisor.json").read_text()))


def end_of(sandbox: Sandbox) -> Event:
    """Wait until it is told how the sandbox has ended."""
    for event in sandbox.events(follow=True):
        if event.kind in ("sandbox.failed", "sandbox.stopped", "sandbox.removed"):
            return event
    raise AssertionError("the events have ended")


def die_inside(sandbox: Sandbox, script: str) -> None:
    """Run as root what the answer of may never come to."""
    try:
        sandbox.exec("sh", "-c", script, user="root", check=False)
    except ClocheError:
        pass


def test_a_monitor_that_is_killed_is_a_sandbox_that_failed(node: VmNode) -> None:
    sandbox, other = node.many(2)
    os.kill(written(node, sandbox)["init_pid"], signal.SIGKILL)
    told = end_of(sandbox)
    assert (told.kind, told.data["reason"]) == ("sandbox.failed", "monitor_died")
    assert (sandbox.info().state, sandbox.info().reason) == ("failed", "monitor_died")
    assert other.exec("echo", "on").stdout == "on\n"


def test_a_supervisor_that_is_killed_takes_its_machine_with_it(node: VmNode) -> None:
    sandbox = node.create()
    pids = written(node, sandbox)
    os.kill(pids["supervisor_pid"], signal.SIGKILL)
    wait_for_exit(pids["init_pid"])
    assert end_of(sandbox).data["reason"] == "supervisor_lost"


def test_a_panic_is_told_with_the_last_lines_of_the_console(node: VmNode) -> None:
    sandbox = node.create()
    die_inside(sandbox, "echo these-are-the-last-words > /dev/kmsg; echo c > /proc/sysrq-trigger")
    told = end_of(sandbox)
    assert (told.kind, told.data["reason"]) == ("sandbox.failed", "guest_panic")
    assert "Kernel panic" in str(told.data["console"])
    assert sandbox.info().reason == "guest_panic"


def test_code_that_ends_the_machine_orderly_or_not(node: VmNode) -> None:
    sandbox = node.create()
    die_inside(sandbox, "echo b > /proc/sysrq-trigger")
    assert end_of(sandbox).data["reason"] in ("guest_died", "monitor_died")
    sandbox.remove()


def test_a_flood_of_the_console_reaches_nobody(node: VmNode) -> None:
    sandbox, other = node.many(2)
    flood = "echo 8 > /proc/sys/kernel/printk; while :; do echo AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA > {}; done"
    for console in ("/dev/ttyS0", "/dev/kmsg"):
        sandbox.spawn("sh", "-c", flood.format(console), user="root")
    for each in (sandbox, other, sandbox):
        assert each.exec("echo", "on").stdout == "on\n"
    directory = node.home / "run" / sandbox.id
    assert sum(path.stat().st_size for path in directory.iterdir() if path.name not in ("memory",)) < 1 << 20


def test_a_flood_of_the_channel_stalls_nobody_else(node: VmNode) -> None:
    sandbox = node.create()
    flood = sandbox.spawn("yes")
    slow = flood.output()
    next(slow)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda number: sandbox.exec("echo", str(number)).stdout, range(12)))
    assert said == [f"{number}\n" for number in range(12)]
    sandbox.files.write("a", "b" * 1_000_000)
    assert sandbox.files.read("a") == "b" * 1_000_000
    next(slow)
    flood.kill()


def test_a_fork_bomb_stays_inside(node: VmNode) -> None:
    sandbox, other = node.create(pids=64), node.create()
    bomb = sandbox.spawn("bash", "-c", "f() { f | f & }; f; sleep 1000")
    assert other.exec("echo", "on").stdout == "on\n"
    refused = sandbox.exec("sh", "-c", "for i in 1 2 3; do sleep 1000 & done; echo on", check=False)
    assert refused.exit_code == 0 or refused.limit_hit == "pids" or "fork" in refused.stderr
    bomb.kill()
    assert sandbox.info().state == "running"


def test_a_process_that_takes_all_memory_dies_alone(node: VmNode) -> None:
    sandbox = node.create(memory=128)
    # in pieces so large that little else runs: at its limit each page of a program is read from the disk again
    hungry = sandbox.exec("python3", "-c", "x = []\nwhile True: x.append(b'x' * (48 << 20))", check=False)
    assert (hungry.exit_code, hungry.limit_hit) == (137, "memory")
    assert sandbox.exec("echo", "on").stdout == "on\n"


def test_root_that_leaves_its_group_meets_the_machine_itself(node: VmNode) -> None:
    """Outside its group nothing but the machine's own memory is a limit: the kernel ends what took it."""
    sandbox, other = node.create(memory=128), node.create()
    leave = "echo $$ > /sys/fs/cgroup/cgroup.procs; exec python3 -c \"x = []\nwhile True: x.append(b'x' * (1 << 20))\""
    die_inside(sandbox, leave)
    assert other.exec("echo", "on").stdout == "on\n"
    assert sandbox.exec("echo", "on").stdout == "on\n"


def test_a_full_disk_is_full_inside(node: VmNode) -> None:
    sandbox = node.create(disk=32)
    full = sandbox.exec("sh", "-c", "head -c 64M /dev/zero > large", check=False)
    assert full.exit_code != 0 and "No space left" in full.stderr
    with pytest.raises(ClocheError):
        sandbox.files.write("more", b"x" * (8 << 20))
    sandbox.files.remove("large")
    sandbox.files.write("small", "kept")
    assert sandbox.files.read("small") == "kept"


def truncate(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"")


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"something else")


DAMAGES = {"deleted": Path.unlink, "cut": truncate, "replaced": replace}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_template_that_is_damaged_is_made_anew_and_its_clones_go_on(
    vm_place: VmPlace, tmp_path: Path, how: str
) -> None:
    home = vm_place.alone(tmp_path / "home")
    with vm_node_in(vm_place, home, CLOCHE_VM_STANDBY="0") as node:
        before = node.create()
        (template,) = (path for path in (home / "vm" / "templates").iterdir() if not path.name.startswith("."))
        inode = (template / "memory").stat().st_ino
        DAMAGES[how](template / "memory")
        after = node.create()
        assert (template / "memory").stat().st_ino != inode
        assert [each.exec("sh", "-c", "ls /usr/bin | head -1").exit_code for each in (before, after)] == [0, 0]


def test_another_qemu_means_another_template(vm_place: VmPlace, tmp_path: Path) -> None:
    program = bundle.find_program()
    assert program is not None
    copied = tmp_path / "qemu"
    shutil.copy2(program, copied)
    home = vm_place.alone(tmp_path / "home")
    with vm_node_in(vm_place, home, CLOCHE_QEMU=str(copied)) as node:
        before = node.create()
        made = templates(home)
        with copied.open("ab") as file:
            file.write(b"another build")
        after = node.create()
        assert templates(home) > made
        assert [each.exec("echo", "on").stdout for each in (before, after)] == ["on\n"] * 2
        before.suspend()
        with pytest.raises(ClocheError) as refused:
            before.resume()
        assert "QEMU" in refused.value.message
        assert before.info().state == "suspended"


def templates(home: Path) -> set[str]:
    return {path.name for path in (home / "vm" / "templates").iterdir() if not path.name.startswith(".")}


def test_a_node_that_is_killed_leaves_machines_that_the_next_one_has(node: VmNode) -> None:
    sandbox, other = node.many(2)
    copier = sandbox.spawn("cat", stdin=True)
    copier.write_stdin("before ")
    other.pause()
    end_node(node.home, signal.SIGKILL)
    copier = sandbox.process(copier.id)
    copier.write_stdin("after")
    copier.close_stdin()
    assert b"".join(copier.stdout) == b"before after"
    assert other.info().state == "paused"
    other.resume()
    assert other.exec("echo", "on").stdout == "on\n"
    (child,) = node.forked(sandbox)
    assert child.exec("echo", "on").stdout == "on\n"


def test_a_deadline_that_passes_without_a_node(node: VmNode) -> None:
    sandbox = node.create(ttl_seconds=1000)
    pids = written(node, sandbox)
    sandbox.extend(1)
    end_node(node.home, signal.SIGKILL)
    wait_for_exit(pids["supervisor_pid"])
    assert Sandbox.list() == []
    assert not Path(f"/proc/{pids['init_pid']}").exists()


def test_machines_in_waiting_end_with_a_killed_node(node: VmNode) -> None:
    node.create()
    standby = node.home / "standby"
    # it begins a moment after the sandbox is there; nothing tells when
    while not (found := list(standby.glob("*/supervisor.json"))):
        pass
    pid = int(json.loads(found[0].read_text())["supervisor_pid"])
    end_node(node.home, signal.SIGKILL)
    wait_for_exit(pid)
    assert len(Sandbox.list()) == 1


def test_a_node_killed_while_it_works_leaves_nothing(vm_place: VmPlace, tmp_path: Path) -> None:
    with vm_node_in(vm_place, vm_place.home(tmp_path / "home")) as node:
        node.many(2)
        node.forked(node.create(), 2)
        os.kill(pid := node_pid(node.home), signal.SIGKILL)
        wait_for_exit(pid)
        for sandbox in Sandbox.list():
            assert sandbox.state == "running", list(Sandbox.from_id(sandbox.id).events())
            assert Sandbox.from_id(sandbox.id).exec("echo", "on").stdout == "on\n"
