"""What the conformance suite stands on: boxes of the engine under test, each with a guest client, none left behind."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from cloche.channel.base import Channel
from cloche.engines.base import Box, Capabilities, Engine, Manifest
from cloche.guest_api import Guest
from cloche.guest_api.frames import EXITED, STDERR, STDOUT, Frame
from cloche.model.process import ProcessInfo, ProcessSpec
from cloche.model.sandbox import SandboxSpec

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Done(msgspec.Struct, frozen=True):
    """A process that was followed to its end."""

    info: ProcessInfo
    stdout: bytes
    stderr: bytes


def need(capability: bool, what: str) -> None:
    """Skip the test unless the engine declares it."""
    if not capability:
        pytest.skip(f"this engine does not declare {what}")


class Sandbox:
    """One box that runs, and the client of its guest."""

    def __init__(self, box: Box, channel: Channel) -> None:
        self.box = box
        self.channel = channel
        self.guest = Guest(channel)

    async def exec(self, *argv: str, stdin: bytes | None = None, **options: object) -> Done:
        """Run to the end. `options` are fields of ProcessSpec."""
        spec = msgspec.convert({"argv": list(argv), "stdin": stdin is not None, **options}, ProcessSpec)
        if stdin is None:
            async with self.guest.follow_process(spec) as frames:
                return await collect(frames)
        started = await self.guest.start_process(spec)
        await self.guest.write_stdin(started.id, stdin)
        await self.guest.close_stdin(started.id)
        async with self.guest.output(started.id, follow=True) as frames:
            return await collect(frames)

    async def read(self, path: str) -> bytes:
        async with self.guest.read_file(path) as body:
            return await body.read()

    async def names(self, path: str) -> set[str]:
        async with self.guest.list_files(path) as infos:
            return {info.name async for info in infos}

    async def close(self) -> None:
        await self.guest.close()
        await self.channel.close()


class Bench:
    """Makes boxes and takes them away again."""

    def __init__(self, build: Callable[[Path], Engine], home: Path, capabilities: Capabilities, engine: Engine) -> None:
        self.build = build
        self.home = home
        self.capabilities = capabilities
        self.engine = engine
        self._boxes: list[Box] = []
        self._open: list[Sandbox] = []

    def plan(self, spec: SandboxSpec | None = None, deadline: float | None = None) -> Box:
        """A box that is not made. Its state went through JSON, as it does through the store."""
        wanted = SandboxSpec() if spec is None else spec
        sandbox_id = "sb_" + "".join(secrets.choice(_ALPHABET) for _ in range(26))
        state = json.loads(json.dumps(self.engine.plan(sandbox_id, wanted)))
        run, keep = self.home / "run" / sandbox_id, self.home / "state" / sandbox_id
        run.parent.mkdir(parents=True, exist_ok=True)
        keep.parent.mkdir(parents=True, exist_ok=True)
        box = Box(sandbox_id=sandbox_id, spec=wanted, run_dir=str(run), state_dir=str(keep), engine_state=state,
                  deadline=deadline)  # fmt: skip
        self._boxes.append(box)
        return box

    async def create(self, spec: SandboxSpec | None = None, deadline: float | None = None) -> Sandbox:
        """A box that runs, its guest told of the session."""
        box = self.plan(spec, deadline)
        await self.engine.create(box)
        return await self.enter(box)

    async def restore(
        self, directory: Path, manifest: Manifest, *, forked: bool = True, box: Box | None = None,
        deadline: float | None = None,
    ) -> Sandbox:  # fmt: skip
        """A box that goes on from a capture; without `box` another one than was captured."""
        box = box or self.plan(deadline=deadline)
        await self.engine.restore(box, str(directory), manifest, forked=forked)
        return await self.enter(box, configure=False)

    async def enter(self, box: Box, engine: Engine | None = None, *, configure: bool = True) -> Sandbox:
        """Open the way into a box that runs."""
        sandbox = Sandbox(box, await (engine or self.engine).open_channel(box))
        self._open.append(sandbox)
        limits = box.spec.limits.resolved()
        if configure:
            await sandbox.guest.configure_session(
                box.sandbox_id, env=box.spec.env, user=box.spec.user, workdir=box.spec.workdir,
                open_files=limits.open_files, pids=limits.pids,
            )  # fmt: skip
        return sandbox

    async def clear(self) -> None:
        for sandbox in self._open:
            await sandbox.close()
        for box in self._boxes:
            await self.engine.remove(box)


@asynccontextmanager
async def bench(build: Callable[[Path], Engine], home: Path) -> AsyncIterator[Bench]:
    """A bench whose boxes are gone when it is left, whatever happened on it."""
    engine = build(home)
    made = Bench(build, home, await engine.capabilities(), engine)
    try:
        yield made
    finally:
        await made.clear()
        await engine.close()


async def collect(frames: AsyncIterator[Frame]) -> Done:
    """Follow frames to the exit. The client's decoder has checked that nothing is lost or doubled."""
    out: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray()}
    info: ProcessInfo | None = None
    async for frame in frames:
        if frame.kind in (STDOUT, STDERR):
            out[frame.kind] += frame.payload
        elif frame.kind == EXITED:
            info = frame.process()
    assert info is not None, "the frames ended before the process did"
    return Done(info, bytes(out[STDOUT]), bytes(out[STDERR]))
