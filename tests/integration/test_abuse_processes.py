"""Bad luck and abuse by processes: whatever they do, the guest serves on and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import time
from pathlib import Path

import pytest

from cloche.engines.bench import Bench
from cloche.engines.launched import supervisor
from cloche.guest_api.frames import EXITED, STDOUT
from cloche.model.errors import ClocheError, SandboxDeadError
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import SandboxSpec
from tests.integration.abuse import PATIENCE_SECONDS, alive, boxes, python

__all__ = ["boxes"]

pytestmark = pytest.mark.anyio

MIB = 1 << 20
FORK_BOMB = """
import os, time
def bomb():
    while True:
        try:
            if os.fork() == 0:
                continue
        except OSError:
            time.sleep(0.01)
os.setsid(); bomb()
"""


async def test_a_fork_bomb_fills_only_its_own_box(boxes: Bench) -> None:
    sandbox, other = await boxes.create(SandboxSpec(limits=Limits(pids=32))), await boxes.create()
    await python(sandbox, FORK_BOMB, timeout_seconds=2)
    assert (await sandbox.guest.health()).pid == 1
    await alive(other)
    await asyncio.wait_for(boxes.engine.stop(sandbox.box, keep_disk=False), PATIENCE_SECONDS)
    assert (await boxes.engine.status(sandbox.box)).status == "exited"


async def test_a_memory_bomb_dies_and_the_guest_lives(boxes: Bench) -> None:
    if "memory" not in boxes.capabilities.limits_enforced:
        pytest.skip("memory is not limited here: no cgroup may be made")
    sandbox = await boxes.create(SandboxSpec(limits=Limits(memory_mib=64)))
    done = await python(sandbox, "b = []\nwhile True: b.append(bytearray(1 << 20))")
    assert (done.info.exit_code, done.info.limit_hit) == (137, "memory")
    await alive(sandbox)
    usage = await boxes.engine.usage(sandbox.box)
    assert usage.out_of_memory_kills and usage.out_of_memory_kills > 0
    assert (usage.memory_peak_bytes or 0) <= 65 * MIB


async def test_a_memory_bomb_of_many_processes(boxes: Bench) -> None:
    if "memory" not in boxes.capabilities.limits_enforced:
        pytest.skip("memory is not limited here: no cgroup may be made")
    sandbox = await boxes.create(SandboxSpec(limits=Limits(memory_mib=64)))
    code = "import os\nfor _ in range(5): os.fork()\nb = []\nwhile True: b.append(bytearray(1 << 20))"
    await python(sandbox, code, timeout_seconds=5)
    await alive(sandbox)


async def test_descriptors_run_out_for_the_process_alone(boxes: Bench) -> None:
    sandbox = await boxes.create(SandboxSpec(limits=Limits(open_files=64)))
    done = await python(sandbox, "import os\nwhile True: os.dup(0)")
    assert b"Too many open files" in done.stderr
    await alive(sandbox)


async def test_output_that_nobody_reads_is_bounded_and_stalls_nobody(boxes: Bench) -> None:
    sandbox = await boxes.create()
    before = (await sandbox.guest.stats()).output_ring_bytes
    loud = await sandbox.guest.start_process(ProcessSpec(argv=["sh", "-c", "head -c 1000000000 /dev/zero"]))
    for _ in range(10):
        started = time.monotonic()
        assert (await sandbox.exec("echo", "here")).stdout == b"here\n"
        assert time.monotonic() - started < 5
    ended = await sandbox.guest.wait_process(loud.id, PATIENCE_SECONDS)
    assert (ended.exit_code, ended.stdout_bytes) == (0, 1_000_000_000)
    assert (await sandbox.guest.stats()).output_ring_bytes - before <= 2 * before + 64 * MIB


async def test_a_process_that_ignores_sigterm_ends_at_its_timeout(boxes: Bench) -> None:
    sandbox = await boxes.create()
    done = await sandbox.exec("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", timeout_seconds=0.3)
    assert (done.info.exit_code, done.info.limit_hit) == (124, "timeout")


async def test_stop_ends_what_ignores_every_signal(boxes: Bench) -> None:
    sandbox = await boxes.create()
    code = "\n".join(
        [
            "import signal",
            "for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)",
            "print(1, flush=True)",
            "while True: signal.pause()",
        ]
    )
    async with sandbox.guest.follow_process(ProcessSpec(argv=["python3", "-c", code])) as frames:
        async for frame in frames:
            if frame.kind == STDOUT:
                break
        await asyncio.wait_for(boxes.engine.stop(sandbox.box, keep_disk=False), PATIENCE_SECONDS)


async def test_zombies_and_orphans_are_reaped(boxes: Bench) -> None:
    sandbox = await boxes.create()
    code = """
        import os
        for _ in range(200):
            if (pid := os.fork()) == 0:
                if os.fork() == 0:
                    os._exit(0)
                os._exit(0)
            os.waitpid(pid, 0)
    """
    assert (await python(sandbox, code)).info.exit_code == 0
    code = """
        import os
        stats = [open(f"/proc/{pid}/stat").read() for pid in os.listdir("/proc") if pid.isdigit()]
        print(sum(stat.rpartition(")")[2].split()[0] == "Z" for stat in stats))
    """
    assert (await python(sandbox, code)).stdout == b"0\n"
    # a storm that its own parent never waits for goes when that parent goes
    await python(sandbox, "import os\nfor _ in range(200): os.fork() or os._exit(0)")
    assert (await python(sandbox, code)).stdout == b"0\n"


async def test_frames_that_user_code_prints_are_only_output(boxes: Bench) -> None:
    sandbox = await boxes.create()
    forged = b"".join(struct.pack(">IIQ", kind << 24, 2, 0) + b"{}" for kind in (1, 2, 3, 4, 5, 6, 99))
    done = await python(sandbox, "import sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))", forged.hex())
    assert (done.stdout, done.stderr, done.info.exit_code) == (forged, b"", 0)
    http = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"
    done = await python(sandbox, "import sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))", http.hex())
    assert done.stdout == http


async def test_a_mebibyte_of_environment(boxes: Bench) -> None:
    sandbox = await boxes.create()
    env = {f"V{number}": "x" * 100_000 for number in range(10)}
    done = await sandbox.exec("sh", "-c", 'printf %s "$V9"', env=env)
    assert done.stdout == b"x" * 100_000
    # one string of more than 128 KiB is what the kernel cannot pass: a result, no error
    assert (await sandbox.exec("true", env={"V": "x" * (1 << 20)})).info.exit_code == 126


async def test_bytes_that_are_no_utf8(boxes: Bench) -> None:
    sandbox = await boxes.create()
    name = b"caf\xe9\n\xff".decode("utf-8", "surrogateescape")
    done = await sandbox.exec("sh", "-c", 'printf %s "$1" > "$1"; printf "$V"', "sh", name, env={"V": name})
    assert done.stdout == b"caf\xe9\n\xff"
    assert await sandbox.read(name) == b"caf\xe9\n\xff"
    assert name in await sandbox.names(".")


async def test_a_killed_supervisor_takes_its_box_along(boxes: Bench) -> None:
    sandbox = await boxes.create()
    await sandbox.guest.start_process(ProcessSpec(argv=["sh", "-c", "(setsid sleep 1000 &) ; sleep 1000"]))
    written = supervisor.read_json(Path(sandbox.box.run_dir) / "supervisor.json")
    assert written is not None
    init = os.pidfd_open(written["init_pid"])
    await supervisor.kill(written["supervisor_pid"], Path(sandbox.box.run_dir))
    ended = await asyncio.wait_for(boxes.engine.wait(sandbox.box), PATIENCE_SECONDS)
    assert (ended.status, ended.reason) == ("exited", "supervisor_lost")
    with contextlib.closing(os.fdopen(init, closefd=True)) as pidfd:
        await asyncio.wait_for(_readable(pidfd.fileno()), PATIENCE_SECONDS)
    with pytest.raises((SandboxDeadError, ClocheError)):
        await sandbox.guest.health(timeout_seconds=2)
    await boxes.engine.remove(sandbox.box)
    assert (await boxes.engine.status(sandbox.box)).status == "gone"
    for group in sandbox.box.engine_state.get("cgroups", []):
        assert not Path(group["dir"]).exists()


async def _readable(fd: int) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ended.set)
    await ended.wait()
    loop.remove_reader(fd)


@pytest.mark.slow
async def test_fifty_boxes_at_once(boxes: Bench) -> None:
    many = await asyncio.gather(*(boxes.create() for _ in range(50)))
    done = await asyncio.gather(*(sandbox.exec("cat", "/etc/hostname") for sandbox in many))
    assert len({each.stdout for each in done}) == 50
    await asyncio.gather(*(boxes.engine.remove(sandbox.box) for sandbox in many))
    assert await boxes.engine.sweep(frozenset()) == []


@pytest.mark.parametrize("milliseconds", [0, 2, 5, 10, 20])
async def test_stop_while_it_is_made(boxes: Bench, milliseconds: int) -> None:
    box = boxes.plan()
    making = asyncio.ensure_future(boxes.engine.create(box))
    await asyncio.wait({making}, timeout=milliseconds / 1000)
    with contextlib.suppress(ClocheError):
        await asyncio.wait_for(boxes.engine.stop(box, keep_disk=False), PATIENCE_SECONDS)
    with contextlib.suppress(ClocheError):
        await asyncio.wait_for(making, PATIENCE_SECONDS)
    await boxes.engine.remove(box)
    assert (await boxes.engine.status(box)).status == "gone"
    assert await boxes.engine.sweep(frozenset()) == []


async def test_exit_frames_come_after_all_output(boxes: Bench) -> None:
    sandbox = await boxes.create()
    async with sandbox.guest.follow_process(ProcessSpec(argv=["sh", "-c", "head -c 3000000 /dev/zero"])) as frames:
        kinds = [(frame.kind, len(frame.payload)) async for frame in frames]
    assert kinds[-1][0] == EXITED
    assert sum(size for kind, size in kinds if kind == STDOUT) == 3_000_000
