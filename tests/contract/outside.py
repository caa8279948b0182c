"""The other half of the stand-in for Firecracker (boxed/main.go), outside of its box: what it is asked is answered here
as Firecracker would, and a machine that "runs" is the real guest, a process of this user, behind a vsock handshake.

That guest has no kernel of its own, so what only such a guest can do is answered here. Nothing of this isolates
anything: whatever is run in such a "machine" is run by the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.contract import firecracker

GUEST = Path(__file__).parents[2] / "src/cloche/_bin/cloche-guest"
#: of a guest with its own kernel
OWN_KERNEL = ("POST /v1/wake", "POST /v1/freeze", "POST /v1/thaw", "PUT /v1/clock")
DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
PORT = 1024


class Outside(firecracker.Firecracker):
    """`plan`: what the launcher was told to make; only what is in that box can be opened. `log`: requests to the API,
    and those to the guest that only a machine can answer, in the order in which they came."""

    def __init__(self, plan: dict[str, Any], port: int = PORT) -> None:
        super().__init__(Path(plan["run_dir"], "fc"), ports=frozenset({port}))
        self.plan, self.wrong = plan, list[str]()
        self._inside = {bind["target"]: Path(bind["source"]) for bind in plan["binds"]}
        # a machine that waited for its sandbox is moved with its directory
        self._place = Path(tempfile.mkdtemp(prefix="cloche-outside-"))
        self._guest: asyncio.subprocess.Process | None = None
        self._streams: set[asyncio.StreamWriter] = set()

    def at(self, path: str) -> Path:
        name = path.removeprefix("/fc/")
        if name in ("api.sock", "vsock.sock"):
            return self.directory / f"outside-{name}"
        return self.directory / name if name != path else self._inside.get(path, Path("/nothing/of/it"))

    async def __aenter__(self) -> Outside:
        await super().__aenter__()
        # connected to by an id that nobody has
        self.at("api.sock").chmod(0o777)
        return self

    async def _run(self, state: str) -> None:
        await super()._run(state)
        self.at("vsock.sock").chmod(0o777)
        argv = [str(GUEST), "--listen", str(self._place / "guest.sock")]
        # whoever is not root cannot become anybody
        shared = "0" if os.geteuid() == 0 else "1"
        environment = {"PATH": "/usr/bin:/bin", "CLOCHE_SHARED_UID": shared}
        self._guest = await asyncio.create_subprocess_exec(*argv, cwd=self._place, env=environment)

    async def die(self) -> None:
        await super().die()
        if self._guest is not None and self._guest.returncode is None:
            self._guest.kill()
            await self._guest.wait()
        shutil.rmtree(self._place, ignore_errors=True)

    def _create(self, body: Any) -> None:
        super()._create(body)
        # a capture ends what is open
        for stream in self._streams:
            stream.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            word = await reader.readline()
            if word == b"CONNECT %d\n" % next(iter(self.ports)):
                await self._accept(reader, writer)
        self._streams.discard(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            guest, to_guest = await asyncio.open_unix_connection(self._place / "guest.sock")
        except OSError:
            # its guest boots still
            return
        writer.write(b"OK 1073741824\n")
        back = asyncio.ensure_future(_carry(guest, writer))
        with contextlib.closing(to_guest):
            while data := await reader.read(65536):
                if self.state != "Running":
                    self.wrong.append(f"the guest was asked while it stood still: {data[:40]!r}")
                await self._heard(data, writer, to_guest)
        back.cancel()

    async def _heard(self, data: bytes, host: asyncio.StreamWriter, guest: asyncio.StreamWriter) -> None:
        asked = next((asked for asked in OWN_KERNEL if data.startswith(asked.encode() + b" ")), None)
        if asked:
            self.log.append(asked)
        (host if asked else guest).write(DONE if asked else data)


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
