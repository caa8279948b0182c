"""Things on the host that no sandbox may reach, put there for the probes to find, and taken away again.

Files must lie in the host's own places, where nothing removes them when whoever put them there is killed. So the
suite names them, removes them itself at the end, and with them what an earlier suite that was killed has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PREFIX, SUFFIX = "cloche-probe-", "-secret"
#: an attack takes minutes: what is older belongs to none that still runs
OLD_SECONDS = 3600.0


def new_mark() -> str:
    """What is in the names and contents of all that one attack plants."""
    return f"{PREFIX}{secrets.token_hex(8)}"


@contextlib.contextmanager
def planted(mark: str) -> Iterator[dict[str, Any]]:
    """Files, variables and sockets of the host that no sandbox may reach. The facts that the probes are told."""
    with contextlib.ExitStack() as stack:
        paths = [str(place / f"{mark}{SUFFIX}") for place in _places() if os.access(place, os.W_OK)]
        stack.callback(uproot, mark)
        for path in dict.fromkeys(paths):
            Path(path).write_text(mark)
        os.environ["CLOCHE_PROBE_SECRET"] = mark
        stack.callback(os.environ.pop, "CLOCHE_PROBE_SECRET")
        yield {"mark": mark, "paths": paths, "prefix": sys.base_prefix, **_listening(stack, mark)}


def uproot(mark: str) -> None:
    """Remove the files with this mark, and those that are old, as far as this user may."""
    for place in _places():
        for path in place.glob(f"{PREFIX}*{SUFFIX}"):
            with contextlib.suppress(OSError):
                if path.name == f"{mark}{SUFFIX}" or time.time() - path.lstat().st_mtime > OLD_SECONDS:
                    path.unlink()


def _places() -> list[Path]:
    return [Path.home(), Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/")]


def _listening(stack: contextlib.ExitStack, mark: str) -> dict[str, Any]:
    tcp = stack.enter_context(socket.create_server(("", 0)))
    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("", 0))
    abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
    abstract.bind(f"\0{mark}")
    abstract.listen()
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    by_path = stack.enter_context(socket.socket(socket.AF_UNIX))
    by_path.bind(f"{directory}/socket")
    by_path.listen()
    loop = asyncio.get_running_loop()
    for server, answer in ((udp, _echo), (tcp, _greet)):
        loop.add_reader(server, answer, server)
        stack.callback(loop.remove_reader, server)
    return {"tcp_port": tcp.getsockname()[1], "udp_port": udp.getsockname()[1], "abstract": mark,
            "socket_path": f"{directory}/socket", "addresses": _addresses()}  # fmt: skip


def _echo(udp: socket.socket) -> None:
    data, sender = udp.recvfrom(64)
    udp.sendto(data, sender)


def _greet(tcp: socket.socket) -> None:
    with tcp.accept()[0] as connection:
        connection.send(b"host")


def _addresses() -> list[str]:
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted(str(address) for address in found)
