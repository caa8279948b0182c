"""httpx, requests and aiohttp through the door. The tests do not depend on them: they are installed in a sandbox, from
the index of this machine, which is a test by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cloche import Sandbox
from tests.integration.node_harness import namespace_home
from tests.integration.program_boxes import WAYS, told
from tests.integration.program_index import configured_index, hosts_of
from tests.integration.program_world import DENIED, INSPECTED, PARTLY, World, program_world

LIBRARIES = ("httpx", "requests", "aiohttp")
PIP = ("python3", "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install", "-q")
#: python3 -c FETCH library url: the body
FETCH = """
import asyncio, importlib, sys
library, url = sys.argv[1:]
module = importlib.import_module(library)
async def main():
    # it looks for proxies when it is asked to
    async with module.ClientSession(trust_env=True) as session, session.get(url) as answer:
        return await answer.text()
print(asyncio.run(main()) if library == "aiohttp" else module.get(url, timeout=60).text, end="")
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tar of what was installed, with all that it depends on."""
    index = configured_index()
    net = ",".join(hosts_of(index, LIBRARIES[0]))
    with namespace_home(tmp_path_factory.mktemp("real") / "home"), Sandbox.create(net=net) as box:
        if box.exec("python3", "-m", "pip", "--version").exit_code:
            pytest.skip("the machine's /usr has no pip: apt-get install python3-pip")
        argv = ("--index-url", index, "--target", "/tmp/libraries", "--only-binary", ":all:")
        done = told(box, "redirect", *PIP, *argv, *LIBRARIES)
        assert done.exit_code == 0, done.stdout + done.stderr
        assert box.exec("tar", "-C", "/tmp", "-cf", "/tmp/libraries.tar", "libraries").exit_code == 0
        return box.files.read_bytes("/tmp/libraries.tar")


@pytest.fixture(scope="module")
def world(libraries: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with program_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def box(libraries: bytes, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    home = tmp_path_factory.mktemp("node") / "home"
    with namespace_home(home, **world.settings), Sandbox.create(net=world.net) as made:
        made.files.write("/tmp/libraries.tar", libraries)
        assert made.exec("tar", "-C", "/tmp", "-xf", "/tmp/libraries.tar").exit_code == 0
        yield made


def fetch(box: Sandbox, way: str, library: str, url: str):
    return told(box, way, "python3", "-c", FETCH, library, url, PYTHONPATH="/tmp/libraries")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("library", LIBRARIES)
class TestLibraries:
    def test_plain_and_tls(self, box, world, library, way):
        for scheme in ("http", "https"):
            done = fetch(box, way, library, world.url(INSPECTED, scheme))
            assert done.stdout == f"hello from {INSPECTED} over {scheme}\n", done.stderr

    def test_a_refused_request_is_read(self, box, world, library, way):
        done = fetch(box, way, library, world.url(PARTLY, "https", "/other"))
        assert json.loads(done.stdout)["error"]["code"] == "egress_denied"

    def test_a_host_that_is_not_allowed(self, box, world, library, way):
        done = fetch(box, way, library, world.url(DENIED, "https"))
        assert done.exit_code == 1
        said = ("403",) if way == "proxy" else ("Name or service not known", "getaddrinfo", "DNS")
        assert any(each in done.stderr for each in said), done.stderr
