"""A QEMU that a machine has taken over answers the node with what it likes: the node goes on for everybody else."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import os
import resource
import socket
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cloche.channel import mux_frames as wire
from cloche.channel.mux import MAX_UNTAKEN_BYTES
from cloche.channel.mux_line import MuxLine
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import monitor, pages, plan, qemu
from cloche.engines.vm.qmp import Qmp
from cloche.model.errors import EngineError, NoSpaceError

pytestmark = pytest.mark.anyio
GREETING = b'{"QMP": {}}\n'
DONE = b'{"return": {}}\n'
ADDED = b'{"return": {"fd": 9}}\n'
DEVICES_BYTES = 100_000
#: of a thread that outlives its test, which it then cannot
PATIENCE_SECONDS = 60.0
Talk = Callable[[socket.socket, str, list[int]], None]


@contextlib.contextmanager
def lying(path: Path, talk: Talk) -> Iterator[Path]:
    """QMP, spoken by a thread of its own: `talk` answers every command but the first."""

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as sock:
            sock.sendall(GREETING)
            while True:
                said, given, _, _ = socket.recv_fds(sock, 65536, 4)
                if not said:
                    return
                name = str(json.loads(said)["execute"])
                sock.sendall(DONE) if name == "qmp_capabilities" else talk(sock, name, given)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield path
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def endless(line: bytes) -> Talk:
    def talk(sock: socket.socket, name: str, given: list[int]) -> None:
        while True:
            sock.sendall(line * 1000)

    return talk


def once(line: bytes) -> Talk:
    return lambda sock, name, given: sock.sendall(line)


@pytest.mark.parametrize(
    "line", [b'{"event": "X"}\n', b"{}\n", b'{"event": "' + b"x" * 999 + b'"}\n'], ids=["events", "nothing", "large"]
)
async def test_one_that_never_stops_talking_keeps_nobody_from_the_loop(tmp_path: Path, line: bytes) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.ensure_future(others())
    with lying(tmp_path / "q", endless(line)) as path:
        async with await Qmp.connect(path) as asked:
            begun = turns
            with pytest.raises(EngineError, match="says too much"):
                await asked.execute("stop")
    beside.cancel()
    assert turns - begun > 100


@pytest.mark.parametrize("answer", ["[]", "7", '"running"', "null", '{"status": 7}', '{"status": "a/../b"}'])
async def test_whether_it_runs_is_a_word_or_an_error(tmp_path: Path, answer: str) -> None:
    with lying(tmp_path / "q", once(f'{{"return": {answer}}}\n'.encode())) as path:
        async with await Qmp.connect(path) as asked:
            with pytest.raises(EngineError):
                await asked.status()


async def test_what_is_nested_without_measure_is_no_answer(tmp_path: Path) -> None:
    with lying(tmp_path / "q", once(b"[" * 500_000 + b"\n")) as path:
        async with await Qmp.connect(path) as asked:
            with pytest.raises(EngineError, match="does not speak QMP"):
                await asked.execute("stop")


def writing(size: int | None) -> Talk:
    """Takes the descriptor for the devices' state and writes as much into it; None: without end."""
    held: list[int] = []

    def talk(sock: socket.socket, name: str, given: list[int]) -> None:
        held.extend(given)
        if name == "xen-save-devices-state":
            left = size
            with contextlib.suppress(BrokenPipeError):
                while left is None or left > 0:
                    wrote = os.write(held[0], b"x" * min(1 << 20, left or 1 << 20))
                    left = left if left is None else left - wrote
        if name == "remove-fd":
            os.close(held.pop())
        sock.sendall(ADDED)

    return talk


async def saved(path: Path, target: Path) -> int:
    async with await Qmp.connect(path) as asked:
        return await monitor.save_devices(asked, target)


async def test_the_state_of_devices_is_what_was_written(tmp_path: Path) -> None:
    with lying(tmp_path / "q", writing(DEVICES_BYTES)) as path:
        assert await saved(path, tmp_path / "devices") == DEVICES_BYTES
    assert (tmp_path / "devices").read_bytes() == b"x" * DEVICES_BYTES


async def test_no_state_is_none(tmp_path: Path) -> None:
    with lying(tmp_path / "q", writing(0)) as path:
        with pytest.raises(EngineError, match="no state"):
            await saved(path, tmp_path / "devices")


async def test_state_without_end_never_fills_the_disk(tmp_path: Path) -> None:
    with lying(tmp_path / "q", writing(None)) as path:
        with pytest.raises(EngineError, match="more than"):
            await saved(path, tmp_path / "devices")
    assert (tmp_path / "devices").stat().st_size <= plan.MAX_DEVICES_BYTES


async def test_it_is_given_nothing_that_is_a_file(tmp_path: Path) -> None:
    seen: list[int] = []

    def talk(sock: socket.socket, name: str, given: list[int]) -> None:
        seen.extend(os.fstat(fd).st_mode & 0o170000 for fd in given)
        for fd in given:
            os.close(fd)
        sock.sendall(ADDED)

    with lying(tmp_path / "q", talk) as path:
        with pytest.raises(EngineError):
            await saved(path, tmp_path / "devices")
    assert seen == [0o010000]


async def test_one_that_never_ends_its_state_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "ANSWER_SECONDS", 0.1)
    held: list[int] = []

    def talk(sock: socket.socket, name: str, given: list[int]) -> None:
        held.extend(given)
        sock.sendall(ADDED)

    with lying(tmp_path / "q", talk) as path:
        with pytest.raises(EngineError, match="to the end"):
            await saved(path, tmp_path / "devices")
    os.close(held[0])


async def test_no_room_for_the_state_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lying(tmp_path / "q", writing(DEVICES_BYTES)) as path:
        monkeypatch.setattr(monitor, "_write_all", full)
        with pytest.raises(NoSpaceError):
            await saved(path, tmp_path / "devices")


def full(target: int, data: bytes) -> None:
    raise OSError(28, "No space left on device")


async def test_one_that_ends_while_its_memory_is_copied_has_no_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be that of another user's machine by then, on a clone of the same memory."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/supervisor.json").write_text('{"init_pid": 1}')
    seat = plan.Seat(run_dir=str(tmp_path / "run"), root="", disk="", memory="memory")

    def ends(sock: socket.socket, name: str, given: list[int]) -> None:
        # the answer to a question that nobody has put yet, and its end
        sock.sendall(DONE + b'{"return": {"status": "paused"}}\n')
        sock.shutdown(socket.SHUT_RDWR)

    async def copied(*arguments: object) -> int:
        return 1

    monkeypatch.setattr(pages, "save", copied)
    with lying(tmp_path / "q", ends) as path:
        async with await Qmp.connect(path) as asked:
            await asked.execute("stop")
            with pytest.raises(EngineError):
                await qemu.AskedQemu(asked).save_pages(
                    cast(Facts, SimpleNamespace(launcher=tmp_path)), seat, tmp_path / "pages"
                )


async def test_streams_that_are_refused_do_not_pile_up(tmp_path: Path) -> None:
    """The guest opens some, waits until they were read, and never reads what it is told."""
    here, there = socket.socketpair()
    here.setblocking(False)
    line = MuxLine(here)
    epoch = bytes(line._mux._epoch)
    worst = 0

    async def flood() -> None:
        nonlocal worst
        number, tag = 2, int.from_bytes(epoch[:4], "big")
        there.sendall(wire.ANSWER + epoch)
        while number < 1_000_000 and not line.lost:
            there.sendall(b"".join(wire.header(wire.OPEN, number + 2 * i, 1, tag) for i in range(500)))
            number += 1000
            while unread(there) and not line.lost:  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0)
            worst = max(worst, line._mux.waiting)

    with here, there, contextlib.suppress(OSError):
        await flood()
    assert line.lost
    assert worst <= MAX_UNTAKEN_BYTES + (256 << 10)


def unread(sock: socket.socket) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    return count[0]


def test_this_process_is_not_large() -> None:
    """What all of the above has left in memory."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 20
