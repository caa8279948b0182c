"""Root of a machine takes the guest's own way to the node out of its hands: the node stays as it is for everybody else,
and the machine can be ended."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from cloche.model.errors import ClocheError, NotFoundError
from tests.integration.node_harness import node_pid
from tests.integration.vm_node import VmNode, vm_node_in
from tests.vm_root import VmPlace

pytestmark = pytest.mark.slow
#: PID 1 stands still, and its port is this program's
SEIZE = """
import ctypes, os, struct, time
libc = ctypes.CDLL(None, use_errno=True)
def seized():
    number = next(n for n in os.listdir("/proc/1/fd") if "vport" in os.readlink("/proc/1/fd/" + n))
    port = libc.syscall(438, os.pidfd_open(1), int(number), 0)
    for task in os.listdir("/proc/1/task"):
        if libc.ptrace(0x4206, int(task), 0, 0) or libc.ptrace(0x4207, int(task), 0, 0):
            raise OSError(ctypes.get_errno(), "not stopped")
    assert port >= 0, os.strerror(ctypes.get_errno())
    return port
print("seizing", flush=True)
# what was said is on its way
time.sleep(0.2)
port = seized()
os.set_blocking(port, True)
def write(data):
    while data:
        data = data[os.write(port, data):]
"""
GARBAGE = """
while True:
    write(os.urandom(1 << 16))
"""
#: speaks the multiplexer by itself: opens streams that nobody wants, and reads no refusal
STREAMS = """
HELLO = b"CLOCHE-MUX/1\\r\\n\\0\\0"
def epoch():
    got = b""
    while HELLO not in got or len(got) < got.index(HELLO) + 32:
        os.set_blocking(port, False)
        try:
            got = (got + os.read(port, 65536))[-200_000:]
        except BlockingIOError:
            time.sleep(0.01)
    os.set_blocking(port, True)
    return got[got.index(HELLO) + 16:][:16]
while True:
    found = epoch()
    write(b"cloche-mux/1\\r\\n\\0\\0" + found)
    for number in range(2, 1_000_000, 400):
        write(b"".join(struct.pack(">III", 1 << 24, number + 2 * i, 1) + found[:4] for i in range(200)))
"""
ENDS = """
import ctypes
console = open("/dev/ttyS0", "wb", buffering=0)
console.write(b"cloche-guest: ended 0\\r\\n\\x1b]0;mine\\x07\\x1b[2J\\xe2\\x80\\xae")
console.write(b"Kernel panic - not syncing: of sb_other\\r\\n")
ctypes.CDLL(None).reboot(0x1234567)
"""
#: all of its memory and its disk in use at once, and much code that was never run before
USES_ALL = """
import os, random
held = []
free = lambda: int(next(l.split()[1] for l in open("/proc/meminfo") if l.startswith("MemAvailable"))) >> 10
while free() > 24 and len(held) < 512:
    held.append(bytearray(os.urandom(1 << 16) * 16))
with open("/var/tmp/full", "wb") as file:
    try:
        while True:
            file.write(os.urandom(1 << 20))
    except OSError:
        pass
for number in range(300):
    exec(compile("\\n".join(f"x{i} = {i} * {number}" for i in range(300)), "x", "exec"), {})
print(len(held))
"""
#: of the node's memory: what some requests and their errors take, and nothing that grows with what was sent
MOST_MIB = 64
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def node(vm_place: VmPlace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmNode]:
    with vm_node_in(vm_place, vm_place.home(tmp_path_factory.mktemp("node") / "home")) as made:
        yield made


@pytest.fixture(scope="module")
def other(node: VmNode) -> Sandbox:
    return create(node)


def create(node: VmNode) -> Sandbox:
    return node.create(memory=192, disk=64)


def resident_mib(node: VmNode) -> int:
    status = Path(f"/proc/{node_pid(node.home)}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) >> 10


@contextlib.contextmanager
def until_it_ends(sandbox: Sandbox, *argv: str, user: str = "user") -> Iterator[threading.Event]:
    """Run this in it again and again, beside the test, which then takes the sandbox away. The event: it has
    said something."""
    said = threading.Event()

    def again() -> None:
        with contextlib.suppress(ClocheError):
            while True:
                sandbox.exec(*argv, user=user, on_stdout=lambda _: said.set())

    running = threading.Thread(target=again)
    running.start()
    try:
        yield said
    finally:
        with contextlib.suppress(NotFoundError):
            sandbox.remove()
        running.join()


@pytest.mark.parametrize("code", [GARBAGE, STREAMS], ids=["garbage", "streams"])
def test_what_comes_out_of_a_seized_port_hurts_nobody_else(node: VmNode, other: Sandbox, code: str) -> None:
    hostile = create(node)
    other.exec("true", check=True)
    before = resident_mib(node)
    with until_it_ends(hostile, "python3", "-c", SEIZE + code, user="root") as seizing, until_it_ends(hostile, "true"):
        assert seizing.wait(PATIENCE_SECONDS)
        for _ in range(10):
            other.exec("python3", "-c", "pass", check=True)
        assert hostile.info().state == "running"
        assert resident_mib(node) - before < MOST_MIB
    other.exec("true", check=True)


def test_a_machine_lies_about_nobodys_end_but_its_own(node: VmNode, other: Sandbox) -> None:
    hostile = create(node)
    with contextlib.suppress(ClocheError):
        hostile.exec("python3", "-c", ENDS, user="root")
    while (told := hostile.info()).state == "running":
        pass
    assert (told.state, told.reason) == ("failed", "guest_panic")
    assert not {"\x1b", "\x07", "\u202e"} & set(str(told))
    assert other.info().state == "running"
    hostile.remove()


def test_a_disk_of_garbage_is_read_by_nobody_but_its_machine(node: VmNode, other: Sandbox) -> None:
    """The superblock, and all that the host has put on it."""
    hostile = create(node)
    hostile.exec("python3", "-c", "open('/dev/vdb', 'r+b').write(bytes(range(256)) * 65536)", user="root")
    with contextlib.suppress(ClocheError):
        hostile.stop()
    with pytest.raises(ClocheError):
        hostile.start()
    other.exec("true", check=True)
    hostile.remove()


def test_one_that_uses_all_it_may_have_is_not_ended_for_it(node: VmNode) -> None:
    sandbox = create(node)
    used = sandbox.exec("python3", "-c", USES_ALL, user="root", timeout_seconds=120)
    assert used.exit_code == 0, used.stderr
    assert int(used.stdout) > 32
    sandbox.exec("true", check=True)
    assert sandbox.info().state == "running"
    sandbox.remove()
