"""The door as a process of its own: how it is started, what it may see of the node's environment, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cloche.model.errors import UnavailableError

LOG_NAME = "door.log"
MAX_LOG_BYTES = 5 << 20
MAX_LAST_BYTES, MAX_LAST_CHARS = 4096, 300
#: after its socket is closed it ends by itself
END_SECONDS = 3.0
#: what a Python finds itself and the machine's certificates by; everything else is none of its business
_KEPT = frozenset(
    {"PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "RES_OPTIONS",
     "LOCALDOMAIN", "HOSTALIASES", "PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE",
     "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONPLATLIBDIR", "PYTHONUTF8", "CLOCHE_LOG_LEVEL"}
)  # fmt: skip
#: in either case of letters
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})


class DoorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`home`: the data directory. `resolver`: "ip:port" of a DNS server; None: as the machine does. `upstream_ca`: a
    PEM file to trust beside the machine's. `ingress_port` 0: the one of last time, or any that is free."""

    home: str
    resolver: str | None = None
    upstream_ca: str | None = None
    ingress_port: int = 0


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the node's environment the door may see."""
    kept = {name: value for name, value in environ.items() if name in _KEPT or name.upper() in _PROXIES}
    # it begins in another directory, and has to find this very package
    paths = [os.path.abspath(part) for part in kept.pop("PYTHONPATH", "").split(os.pathsep) if part]
    here = str(Path(__file__).resolve().parents[3])
    if os.path.basename(here) not in ("site-packages", "dist-packages"):
        paths = [here, *(path for path in paths if path != here)]
    return {**kept, **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})}


def command(descriptor: int) -> list[str]:
    return [sys.executable, "-m", "cloche.egress.door", "--control-fd", str(descriptor)]


async def spawn(home: str, theirs: socket.socket) -> asyncio.subprocess.Process:
    """Closes `theirs`, which the new process has. Raises UnavailableError."""
    try:
        with open(_log(Path(home)), "ab", buffering=0) as said:
            # a session of its own: what a terminal sends to the node is for the node to decide about
            return await asyncio.create_subprocess_exec(
                *command(theirs.fileno()), stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/",
                env=environment(os.environ), pass_fds=(theirs.fileno(),), start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise UnavailableError(f"the door cannot be started: {error}", remedy="cloche doctor") from error
    finally:
        theirs.close()


async def end(process: asyncio.subprocess.Process) -> None:
    """Its socket is closed already. Nothing of it is left afterwards."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def last_words(home: str) -> str:
    """The last line of its log, as text of a message; empty when there is none."""
    try:
        with open(Path(home) / "logs" / LOG_NAME, "rb") as said:
            said.seek(max(0, os.fstat(said.fileno()).st_size - MAX_LAST_BYTES))
            lines = said.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    last = next((line for line in reversed(lines) if line.strip()), "")
    return "".join(letter for letter in last if letter.isprintable())[:MAX_LAST_CHARS]


def _log(home: Path) -> int:
    """A descriptor of its log, begun anew when it is long."""
    directory = home / "logs"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / LOG_NAME
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > MAX_LOG_BYTES:
            path.replace(directory / f"{LOG_NAME}.1")
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
