"""The blocks of the guides to the network and to secrets, against servers of the tests' own: no name of the pages is
looked up anywhere else."""

from __future__ import annotations

import contextlib
import http.server
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.dns_server import DnsServer
from tests.integration.door_world import certificates
from tests.integration.egress_world import serving
from tests.integration.guide_blocks import run_blocks
from tests.integration.node_harness import namespace_home
from tests.test_docs import ROOT, blocks_of, commands_of

PAGES = [ROOT / "docs" / "guides" / name for name in ("network.md", "secrets.md")]
HOSTS = ("files.example", "api.example")
VALUE = "the-value-of-the-token"


@dataclass(frozen=True)
class World:
    """Ports on 127.0.0.1, where all hosts of the pages are here. `settings`: of the node, and of the pages' shell."""

    plain: int
    tls: int
    settings: dict[str, str]


class _Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = f"{self._answer()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def _answer(self) -> str:
        if "Authorization" in self.headers:
            return "you are known" if self.headers["Authorization"] == f"Bearer {VALUE}" else "who are you?"
        return f"hello from {self.headers['Host'].partition(':')[0]}"

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def served(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello)
    server.daemon_threads = True
    with serving(server, context) as port:
        yield port


@pytest.fixture
def world() -> Iterator[World]:
    names = DnsServer()
    try:
        for host in HOSTS:
            names.add(host, "127.0.0.1")
        with certificates() as authority, served() as plain, served(authority.server(*HOSTS)) as tls:
            yield World(plain, tls, {"CLOCHE_DNS": names.address, "CLOCHE_UPSTREAM_CA": authority.file})
    finally:
        names.close()


def replaced(world: World) -> dict[str, str]:
    """The pages speak of hosts with the usual ports and public addresses; these here have neither."""
    found = {}
    for host in HOSTS:
        place, secret = f"{host}:{world.plain}+{world.tls}@127.0.0.0/8", f"API_TOKEN@{host}"
        found |= {f"http://{host}/": f"http://{host}:{world.plain}/", f"http://{host}…": f"http://{host}:…"}
        found |= {f"https://{host}/": f"https://{host}:{world.tls}/"}
        found |= {f"--net {host} ": f"--net {place} ", f'="{host}"': f'="{place}"', f'="?{host}"': f'="?{place}"'}
        found |= {f"{host},out=": f"{place},out="}
        found |= {f"work {host}\n": f"work {place}\n", f"  - {host}\n": f"  - {place}\n"}
        found |= {f"--secret {secret}": f"--secret {secret} --net {place}"}
        found |= {f'secrets=["{secret}"]': f'secrets=["{secret}"], net="{place}"'}
    return found


def shown(page: Path, world: World) -> dict[str, str]:
    """Files that the page shows by `cat`, as they are meant here: name → text."""
    texts = {
        command.removeprefix("cat "): expected
        for block in blocks_of(page)
        if block.language == "console"
        for command, expected in commands_of(block.body)
        if command.startswith("cat ")
    }
    for said, meant in replaced(world).items():
        texts = {name: text.replace(said, meant) for name, text in texts.items()}
    return texts


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_page_shows_is_what_happens(page: Path, world: World, tmp_path: Path) -> None:
    for name, text in shown(page, world).items():
        (tmp_path / name).write_text(text)
    blocks = [block for block in blocks_of(page) if block.exempt and "by a test of its own" in block.exempt]
    assert blocks
    with namespace_home(tmp_path / "home", **world.settings) as home:
        settings = {**world.settings, "CLOCHE_ENGINE": "namespace", "API_TOKEN": VALUE}
        run_blocks(blocks, home, tmp_path, replaced(world), **settings)
