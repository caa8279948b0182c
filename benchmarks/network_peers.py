"""Other ways to the same server: nothing in between, tinyproxy, squid, mitmproxy (which ends TLS too), pasta."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Unavailable
from benchmarks.network_world import World

CLIENT = Path(__file__).with_name("network_client.py")
PATIENCE_SECONDS = 30.0
#: runs the client with what is asked, and gives its one object back
Client = Callable[[dict[str, Any]], dict[str, Any]]


@contextlib.contextmanager
def direct(world: World, directory: Path) -> Iterator[Client]:
    """The floor: the client on the host. Names mean nothing to the host, so it asks for the address."""
    yield lambda asked: _run([], {**asked, "to": ["127.0.0.1", asked["to"][1]]})


@contextlib.contextmanager
def pasta(world: World, directory: Path) -> Iterator[Client]:
    """A network namespace whose loopback leads to these two ports of the host's, through pasta in user space."""
    _need("pasta")
    ports = f"{world.plain},{world.tls}"
    argv = ["pasta", "--config-net", "--quiet", "-t", "none", "-u", "none", "-T", ports, "-U", "none", "--"]
    _try([*argv, "true"])
    yield lambda asked: _run(argv, {**asked, "to": ["127.0.0.1", asked["to"][1]]})


@contextlib.contextmanager
def tinyproxy(world: World, directory: Path) -> Iterator[Client]:
    _need("tinyproxy")
    port, config = _free_port(), directory / "tinyproxy.conf"
    config.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 2000\nLogLevel Critical\n")
    with _server(["tinyproxy", "-d", "-c", str(config)], port):
        yield _through(port)


@contextlib.contextmanager
def squid(world: World, directory: Path) -> Iterator[Client]:
    _need("squid")
    port, place = _free_port(), directory / "squid"
    place.mkdir()
    shutil.chown(place, "proxy")
    config = place / "squid.conf"
    config.write_text(
        f"http_port 127.0.0.1:{port}\nhttp_access allow all\ncache deny all\naccess_log none\n"
        f"pid_filename none\ncache_log {place}/log\ncoredump_dir {place}\n"
        "acl CONNECT method CONNECT\nshutdown_lifetime 0 seconds\npinger_enable off\n"
    )
    directory.chmod(0o755)
    with _server(["squid", "-N", "-f", str(config)], port):
        yield _through(port)


@contextlib.contextmanager
def mitmproxy(world: World, directory: Path) -> Iterator[Client]:
    """`MITMDUMP` may name the program, as it needs other releases of libraries than Cloche has."""
    program = os.environ.get("MITMDUMP", "mitmdump")
    _need(program)
    port, place = _free_port(), directory / "mitmproxy"
    options = ["--set", f"confdir={place}", "--set", "stream_large_bodies=1m", "--set", "connection_strategy=lazy",
               "--set", f"ssl_verify_upstream_trusted_ca={world.authorities}"]  # fmt: skip
    with _server([program, "-q", "--listen-host", "127.0.0.1", "-p", str(port), *options], port):
        yield _through(port, str(place / "mitmproxy-ca-cert.pem"))


def _through(port: int, authorities: str | None = None) -> Client:
    def run(asked: dict[str, Any]) -> dict[str, Any]:
        ends_tls = {"authorities": authorities} if authorities else {}
        return _run([], {**asked, "to": ["127.0.0.1", asked["to"][1]], "proxy": ["127.0.0.1", port], **ends_tls})

    return run


def _run(before: list[str], asked: dict[str, Any]) -> dict[str, Any]:
    argv = [*before, sys.executable, str(CLIENT), json.dumps(asked)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Unavailable(done.stderr.strip()[-300:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _try(argv: list[str]) -> None:
    """The pasta of Debian 12 waits for ever when root starts it, and its children with it."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        status = process.wait(5)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise Unavailable("it does not run `true` here") from error
    if status:
        raise Unavailable(f"it ends with status {status}")


@contextlib.contextmanager
def _server(argv: list[str], port: int) -> Iterator[None]:
    # it does not outlive a benchmark that is killed
    argv = ["setpriv", "--pdeathsig", "KILL", *argv]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _await(process, port)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            raise Unavailable(str(process.stderr.read() if process.stderr else b"")[-300:])
        time.sleep(0.05)
    raise Unavailable("it does not listen")


def _need(program: str) -> None:
    if not shutil.which(program):
        raise Unavailable(f"{program} is not installed")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
