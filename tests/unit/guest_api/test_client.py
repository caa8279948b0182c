"""The client against the fake guest: every kind of call, on one channel, many at once."""

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator

import pytest

from cloche.engines.fake.box import FakeBox
from cloche.engines.fake.filesystem import Filesystem
from cloche.engines.fake.streams import MemoryChannel
from cloche.guest_api import Guest
from cloche.guest_api.frames import EXITED, GAP, STARTED, STDERR, STDOUT
from cloche.model.errors import (
    AlreadyExistsError,
    InvalidError,
    NeedsSubuidError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    SandboxDeadError,
    UnavailableError,
    WrongStateError,
)
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec, PtySize

pytestmark = pytest.mark.anyio
WAIT = 10


@pytest.fixture
async def box() -> AsyncIterator[FakeBox]:
    made = FakeBox("sb_test", Limits().resolved(), Filesystem(8 << 20))
    made.boot()
    yield made
    made.end("killed", 137)


@pytest.fixture
async def guest(box: FakeBox) -> AsyncIterator[Guest]:
    async with Guest(MemoryChannel(box.connect)) as client:
        yield client


async def test_the_box_itself(guest: Guest) -> None:
    assert (await guest.health()).sandbox_id == "sb_test"
    await guest.configure_session("sb_other", env={"A": "1"}, session_env={"A": "2"})
    assert (await guest.health()).sandbox_id == "sb_other"
    assert (await guest.stats()).disk_limit_bytes == 8 << 20
    await guest.add_entropy(b"x" * 32)
    with pytest.raises(InvalidError):
        await guest.add_entropy(b"x")
    with pytest.raises(UnavailableError):
        await guest.set_clock(0)
    with pytest.raises(NotFoundError):
        await guest.dial(80)


async def test_following_a_process(guest: Guest) -> None:
    async with guest.follow_process(ProcessSpec(argv=["sh", "-c", "echo a; echo b >&2; exit 3"])) as frames:
        found = [frame async for frame in frames]
    assert [frame.kind for frame in found] == [STARTED, STDOUT, STDERR, EXITED]
    assert found[-1].process().exit_code == 3


async def test_leaving_a_follow_early_leaves_the_process(guest: Guest) -> None:
    async with guest.follow_process(ProcessSpec(argv=["sleep", "1000"], tag="t")) as frames:
        started = (await anext(frames)).process()
    assert (await guest.process(started.id)).state == "running"
    assert [info.tag for info in await guest.list_processes()] == ["t"]
    await guest.forget_process(started.id)
    assert await guest.list_processes() == []
    with pytest.raises(NotFoundError):
        await guest.process(started.id)


async def test_wait_says_still_running(guest: Guest) -> None:
    process = await guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    assert (await guest.wait_process(process.id, 0.05)).state == "running"


async def test_output_that_nobody_read_in_time_is_a_gap(guest: Guest) -> None:
    process = await guest.start_process(ProcessSpec(argv=["yes"], output_limit_bytes=12 << 20))
    ended = await guest.wait_process(process.id, WAIT)
    assert (ended.exit_code, ended.limit_hit, ended.stdout_bytes) == (137, "output", 12 << 20)
    async with guest.output(process.id) as frames:
        found = [frame async for frame in frames]
    assert (found[0].kind, found[0].offset, found[0].gap().lost) == (GAP, 4 << 20, 4 << 20)
    assert sum(len(frame.payload) for frame in found if frame.kind == STDOUT) == 8 << 20
    async with guest.output(process.id, stdout_offset=-4) as frames:
        assert (await anext(frames)).payload == b"y\ny\n"


async def test_a_follower_holds_a_process_up_and_misses_nothing(guest: Guest) -> None:
    async with guest.follow_process(ProcessSpec(argv=["yes"], output_limit_bytes=20 << 20)) as frames:
        total = 0
        async for frame in frames:
            assert frame.kind != GAP
            total += len(frame.payload) if frame.kind == STDOUT else 0
    assert total == 20 << 20


async def test_stdin_by_offset(guest: Guest) -> None:
    process = await guest.start_process(ProcessSpec(argv=["cat"], stdin=True))

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b""
        yield b"cd"

    assert await guest.write_stdin(process.id, pieces(), offset=0) == 4
    assert await guest.write_stdin(process.id, b"abcdef", offset=0) == 6
    with pytest.raises(InvalidError):
        await guest.write_stdin(process.id, b"x", offset=100)
    await guest.close_stdin(process.id)
    ended = await guest.wait_process(process.id, WAIT)
    assert (ended.exit_code, ended.stdout_bytes) == (0, 6)
    with pytest.raises(WrongStateError):
        await guest.write_stdin(process.id, b"x")


async def test_signals_and_terminals(guest: Guest) -> None:
    plain = await guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    with pytest.raises(WrongStateError):
        await guest.resize(plain.id, 10, 10)
    with pytest.raises(InvalidError):
        await guest.signal_process(plain.id, "SIGNOTHING")
    await guest.signal_process(plain.id, 9)
    terminal = await guest.start_process(ProcessSpec(argv=["cat"], pty=PtySize(rows=5, cols=5)))
    await guest.resize(terminal.id, 10, 10)
    assert terminal.pty


async def test_a_wrong_spec_is_refused(guest: Guest) -> None:
    with pytest.raises(InvalidError):
        await guest.start_process(ProcessSpec(argv=["a\0b"]))
    with pytest.raises(InvalidError):
        await guest.start_process(ProcessSpec(argv=[]))


async def test_strange_names_pass_unharmed(guest: Guest) -> None:
    for name in ("a b", "new\nline", "\udcff\udc80", "ä", "?&=#%", "'\""):
        await guest.write_file(f"names/{name}", name.encode("utf-8", "surrogateescape"))
        async with guest.read_file(f"names/{name}") as body:
            assert await body.read() == name.encode("utf-8", "surrogateescape")
    async with guest.list_files("names") as infos:
        assert len([info async for info in infos]) == 6


async def test_ten_thousand_files(guest: Guest, box: FakeBox) -> None:
    for number in range(10_000):
        box.files.write(f"many/{number}", b"")
    async with guest.list_files("many") as infos:
        assert len({info.name async for info in infos}) == 10_000


async def test_writing(guest: Guest) -> None:
    assert (await guest.write_file("f", b"abc", mode=0o600)).mode == 0o600
    assert (await guest.write_file("f", b"def")).mode == 0o600
    assert (await guest.write_file("f", b"g", append=True)).size == 4
    await guest.write_file("f", b"X", offset=1)
    async with guest.read_file("f", offset=1, length=2) as body:
        assert (body.size, body.length, await body.read()) == (4, 2, b"Xf")
    with pytest.raises(NoSpaceError):
        await guest.write_file("large", b"x" * (9 << 20))
    with pytest.raises(PermissionDeniedError):
        await guest.write_file("/etc/passwd", b"")
    with pytest.raises(InvalidError):
        await guest.write_file("/home/user", b"")


async def test_directories_and_links(guest: Guest) -> None:
    await guest.make_dir("a/b/c", parents=True)
    with pytest.raises(AlreadyExistsError):
        await guest.make_dir("a")
    with pytest.raises(WrongStateError):
        await guest.remove("a")
    assert (await guest.symlink("link", "a/b")).target == "a/b"
    assert (await guest.stat("link")).type == "symlink"
    assert (await guest.stat("link", follow=True)).path == "/home/user/a/b"
    assert (await guest.chmod("a", 0o700)).mode == 0o700
    with pytest.raises(NeedsSubuidError):
        await guest.chown("a", 0, 0)
    with pytest.raises(AlreadyExistsError):
        await guest.move("link", "a")
    await guest.remove("a", recursive=True)
    with pytest.raises(NotFoundError):
        await guest.stat("link/c", follow=True)


@pytest.mark.parametrize("name", ["../out", "/abs", "link/inside"])
async def test_archives_that_lead_out_are_refused(guest: Guest, name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(InvalidError):
        await guest.tar_in("in", out.getvalue())


async def test_forward_is_byte_for_byte(guest: Guest) -> None:
    await guest.write_file("f", b"abc")
    headers = [(b"Content-Length", b"0"), (b"Authorization", b"secret"), (b"Connection", b"close")]
    status, answered, body = await guest.forward("GET", b"/v1/files/content?path=f", headers)
    assert (status, b"".join([chunk async for chunk in body])) == (200, b"abc")
    assert dict(answered) == {b"content-length": b"3", b"cloche-file-size": b"3"}
    status, answered, body = await guest.forward("GET", b"/v1/files/content?path=missing")
    assert status == 404
    await body.aclose()


async def test_many_streams_do_not_hold_up_a_call(guest: Guest) -> None:
    process = await guest.start_process(ProcessSpec(argv=["sleep", "1000"]))

    async def follow() -> None:
        async with guest.output(process.id, follow=True) as frames:
            async for _ in frames:
                pass

    followers = [asyncio.ensure_future(follow()) for _ in range(100)]
    await asyncio.gather(*(guest.health() for _ in range(100)))
    await guest.signal_process(process.id, 15)
    await asyncio.wait_for(asyncio.gather(*followers), WAIT)


async def test_a_connection_is_used_again(guest: Guest, box: FakeBox) -> None:
    for _ in range(20):
        await guest.health()
    assert len(box._streams) == 1


async def test_death_in_the_middle(guest: Guest, box: FakeBox) -> None:
    process = await guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    waiting = asyncio.ensure_future(guest.wait_process(process.id, 60))
    async with guest.output(process.id, follow=True) as frames:
        following = asyncio.ensure_future(anext(frames))
        await asyncio.wait({waiting, following}, timeout=0.05)
        box.end("guest_died", 137)
        for task in (waiting, following):
            with pytest.raises(SandboxDeadError):
                await asyncio.wait_for(task, WAIT)
    with pytest.raises(SandboxDeadError):
        await guest.health()


async def test_shutdown_answers_before_it_ends(guest: Guest, box: FakeBox) -> None:
    await guest.shutdown()
    await asyncio.wait_for(box.ended.wait(), WAIT)
    assert (box.status().exit_code, box.status().reason) == (0, "stopped")
