"""Both ends of the multiplexer, in their two languages: the guest API over one pipe, used as the node uses it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import hatch_build
from cloche.channel.muxed import MuxChannel
from cloche.guest_api import frames
from cloche.guest_api.client import Guest
from cloche.model.errors import GuestError, NotFoundError, SandboxDeadError
from cloche.model.process import ProcessSpec

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="session")
def program() -> Iterator[Path]:
    """A guest that speaks the multiplexer on a unix socket, as if that were a chardev."""
    try:
        go = hatch_build.go_command()
    except SystemExit as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="cloche-mux-") as place:
        built = Path(place) / "serve"
        arch = hatch_build.wanted_arch()
        environment = hatch_build._go_environment(go, arch, place)
        argv = [str(go), "build", "-o", str(built), "./internal/mux/muxtest/serve"]
        subprocess.run(argv, cwd=hatch_build.ROOT / "guest", env=environment, check=True, timeout=110)
        yield built


class Served:
    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.path, self.process = path, process

    def channel(self) -> MuxChannel:
        return MuxChannel(self.path, answer_seconds=60)


@pytest.fixture(params=[[]], ids=[""])
def served(program: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    path = tmp_path / "channel.sock"
    home = tmp_path / "home"
    home.mkdir()
    argv = [str(program), str(path), *request.param]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=home) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"listening\n"
            yield Served(path, process)
        finally:
            process.kill()


@pytest.fixture
async def channel(served: Served) -> AsyncIterator[MuxChannel]:
    channel = served.channel()
    yield channel
    await channel.close()


@pytest.fixture
async def guest(channel: MuxChannel, tmp_path: Path) -> AsyncIterator[Guest]:
    async with Guest(channel) as guest:
        await guest.configure_session("sb_mux", user="root", workdir=str(tmp_path))
        yield guest


async def test_calls_and_files_of_any_size(guest: Guest, tmp_path: Path) -> None:
    assert (await guest.health()).sandbox_id == "sb_mux"
    content = os.urandom(9 << 20)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 65_536):
            yield content[at : at + 65_536]

    path = str(tmp_path / "big")
    assert (await guest.write_file(path, pieces())).size == len(content)
    async with guest.read_file(path) as body:
        assert b"".join([piece async for piece in body]) == content
    with pytest.raises(NotFoundError):
        await guest.stat(path + "x")


async def test_a_download_that_nobody_reads_keeps_nobody_else_waiting(guest: Guest, tmp_path: Path) -> None:
    path = str(tmp_path / "big")
    await guest.write_file(path, bytes(4 << 20))
    async with guest.read_file(path) as body:
        first = await anext(aiter(body))
        for _ in range(50):
            await guest.health()
        assert first
    await guest.health()


async def test_many_at_once(guest: Guest, tmp_path: Path) -> None:
    async def one(number: int) -> None:
        path = str(tmp_path / str(number))
        content = bytes([number]) * 100_000
        await guest.write_file(path, content)
        async with guest.read_file(path) as body:
            assert b"".join([piece async for piece in body]) == content

    await asyncio.gather(*map(one, range(100)))


async def test_output_of_a_process_comes_whole(guest: Guest) -> None:
    spec = ProcessSpec(argv=["sh", "-c", "head -c 3000000 /dev/zero; exit 3"])
    got, exit_code = 0, None
    async with guest.follow_process(spec) as followed:
        async for frame in followed:
            got += len(frame.payload) if frame.kind == frames.STDOUT else 0
            exit_code = frame.process().exit_code if frame.kind == frames.EXITED else exit_code
    assert (got, exit_code) == (3_000_000, 3)


async def test_a_dialled_stream_ends_one_direction_at_a_time(guest: Guest, tmp_path: Path) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async with await asyncio.start_unix_server(shout, tmp_path / "inner"):
        stream = await guest.dial(unix=str(tmp_path / "inner"))
        await stream.write(b"hello " * 100_000)
        await stream.write_eof()
        got = b""
        while piece := await stream.read(1 << 20):
            got += piece
        assert got == b"HELLO " * 100_000
        await stream.close()


async def test_a_host_that_vanished_in_the_middle_is_followed_by_another(served: Served, tmp_path: Path) -> None:
    path = str(tmp_path / "big")
    for _ in range(5):
        channel = served.channel()
        async with Guest(channel) as first:
            await first.configure_session("sb_mux", user="root", workdir=str(tmp_path))
            await first.write_file(path, bytes(4 << 20))
            async with first.read_file(path) as body:
                await anext(aiter(body))
                await channel.close()
                with pytest.raises(GuestError):  # which asked the guest for a sign of life: over a new connection
                    async for _ in body:
                        pass
        await channel.close()


async def test_a_guest_that_dies_is_told_to_who_waits(served: Served, channel: MuxChannel) -> None:
    stream = await channel.open()
    reading = asyncio.ensure_future(stream.read(1))
    await asyncio.sleep(0)
    served.process.kill()
    with pytest.raises(ConnectionResetError):
        await reading
    await asyncio.to_thread(served.process.wait)
    with pytest.raises(SandboxDeadError):
        await channel.open()


@pytest.mark.parametrize("served", [["--greet"]], ids=["greet"], indirect=True)
async def test_a_stream_that_the_guest_opens(served: Served, channel: MuxChannel) -> None:
    stream = await channel.accept()
    assert await stream.read(100) == b"hello from the guest"
    for size in (1, 100_000):
        await stream.write(b"x" * size)
        got = 0
        while got < size:
            got += len(await stream.read(1 << 20))
    await stream.write_eof()
    assert await stream.read(1) == b""
    await stream.close()
