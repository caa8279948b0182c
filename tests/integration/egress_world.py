"""Servers and a DNS server on loopback, for tests of sandboxes that may reach them."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.integration.dns_server import DnsServer
from tests.integration.door_world import certificates

NAME = "files.example"
OTHER = "other.example"
WAIT_SECONDS = 30


@dataclass
class World:
    """Ports on 127.0.0.1, where all hosts are. `seen`: Authorization headers that came. `held`: answers to /slow wait
    for it. `settings`: of the node."""

    settings: dict[str, str]
    plain: int = 0
    tls: int = 0
    seen: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def net(self) -> str:
        """Both servers, under one name."""
        return f"{NAME}:{self.plain}+{self.tls}@127.0.0.0/8"

    @property
    def url(self) -> str:
        return f"http://{NAME}:{self.plain}"


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    world: World

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections are cut on purpose."""


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        world = self.server.world
        world.seen.append(self.headers.get("Authorization", ""))
        if self.path == "/slow":
            world.asked.release()
            world.held.wait(WAIT_SECONDS)
        said = f"hello {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def served(world: World, context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = _Server(("127.0.0.1", 0), _Answers)
    server.world = world
    with serving(server, context) as port:
        yield port


@contextlib.contextmanager
def serving(server: http.server.ThreadingHTTPServer, context: ssl.SSLContext | None) -> Iterator[int]:
    """Its port, while it answers in a thread."""
    with server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def egress_world() -> Iterator[World]:
    """The settings are in the environment of this process while it lasts."""
    names = DnsServer()
    try:
        for host in (NAME, OTHER):
            names.add(host, "127.0.0.1")
        with certificates() as authority:
            made = World({"CLOCHE_DNS": names.address, "CLOCHE_UPSTREAM_CA": authority.file})
            with (
                served(made) as plain,
                served(made, authority.server(NAME)) as tls,
                pytest.MonkeyPatch.context() as patch,
            ):
                made.plain, made.tls = plain, tls
                for name, value in made.settings.items():
                    patch.setenv(name, value)
                yield made
    finally:
        names.close()
