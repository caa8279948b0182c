"""Runs every probe inside a sandbox, beside another sandbox and with things on the host to find.

    python attack.py HOME MARK USER…      one line of JSON for each probe and user

It runs in a process of its own, because it must be able to run as an ordinary user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cloche.engines.bench import Bench, Sandbox, bench
from cloche.engines.namespace.engine import NamespaceEngine
from tests.security.planting import planted

PROBES = Path(__file__).parent / "probes"
INSIDE = "/var/tmp/probes"
OTHER = """
import socket, sys, time
tcp = socket.create_server(("127.0.0.1", int(sys.argv[1])))
abstract = socket.socket(socket.AF_UNIX); abstract.bind("\\0" + sys.argv[2]); abstract.listen()
print("ready", flush=True)
time.sleep(3600)
"""


async def put_probes(sandbox: Sandbox) -> None:
    for path in sorted(PROBES.glob("*.py")):
        await sandbox.guest.write_file(f"{INSIDE}/{path.name}", path.read_bytes(), mode=0o644)


@contextlib.asynccontextmanager
async def neighbour(boxes: Bench, mark: str) -> AsyncIterator[dict[str, Any]]:
    """Another sandbox with a file and with open ports."""
    other = await boxes.create()
    path, port = f"/var/tmp/{mark}-other", 20000 + secrets.randbelow(10000)
    await other.guest.write_file(path, b"secret")
    await other.guest.write_file("/home/user/listen.py", OTHER.encode())
    argv = ["python3", "/home/user/listen.py", str(port), f"{mark}-other"]
    from cloche.model.process import ProcessSpec

    async with other.guest.follow_process(ProcessSpec(argv=argv)) as frames:
        async for frame in frames:
            if b"ready" in frame.payload:
                break
        yield {"other_paths": [path, "/home/user/listen.py"], "other_port": port, "other_abstract": f"{mark}-other"}


async def attack(home: Path, mark: str, users: list[str]) -> AsyncIterator[dict[str, Any]]:
    async with bench(NamespaceEngine, home) as boxes:
        with planted(mark) as facts:
            async with neighbour(boxes, mark) as others:
                told = {**facts, **others, "home": str(home)}
                for user in users:
                    async for line in attack_as(boxes, user, told):
                        yield {"user": user, **line}


async def attack_as(boxes: Bench, user: str, told: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    sandbox = await boxes.create()
    await put_probes(sandbox)
    done = await sandbox.exec("python3", "-I", "-B", f"{INSIDE}/run.py", json.dumps(told), user=user)
    for line in done.stdout.splitlines():
        yield json.loads(line)
    # whatever was tried: the guest answers, and new processes can be started
    health = await sandbox.guest.health()
    alive = await sandbox.exec("true")
    survived = health.pid == 1 and alive.info.exit_code == 0 and done.info.exit_code == 0
    yield {"probe": "guest_survived", "refused": survived, "detail": done.stderr.decode(errors="replace")[-2000:]}


async def main() -> None:
    async for line in attack(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
