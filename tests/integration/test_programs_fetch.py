"""curl, wget, Python, node, OpenSSL and Java fetch through the door: redirected without knowing of it and through their
proxies, with TLS that is passed through and TLS that the door ends. What is refused is readable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.program_boxes import BOXES, WAYS, need, node_of, told
from tests.integration.program_world import DENIED, INSPECTED, PARTLY, PASSED, World, program_world

AUTHORITY = "/tmp/upstream.pem"
_PYTHON = """
import sys, urllib.request, urllib.error
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=60)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(answer.read().decode())
"""
_NODE = """
fetch(process.argv[1]).then(answer => answer.text()).then(text => process.stdout.write(text), error => {
  console.error(error, error.cause); process.exit(1) })
"""
PROGRAMS = {
    "curl": ("curl", "-sS", "-m", "60"),
    "wget": ("wget", "-q", "-O-", "-T", "60", "-t", "1", "--content-on-error"),
    "python3": ("python3", "-c", _PYTHON),
    "node": ("node", "-e", _NODE),
}
ON_VM = ("curl", "python3")
#: how each is told of an authority that is not the door's
TRUST = {"SSL_CERT_FILE": AUTHORITY, "CURL_CA_BUNDLE": AUTHORITY, "NODE_EXTRA_CA_CERTS": AUTHORITY}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with program_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module", params=BOXES)
def box(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    home = tmp_path_factory.mktemp("node") / "home"
    with node_of(request.param, request, home, **world.settings) as create, create(net=world.net) as made:
        made.files.write(AUTHORITY, Path(world.authority.file).read_bytes())
        yield made


def fetch(box: Sandbox, program: str, way: str, url: str, **env: str):
    if box.known.engine == "vm" and program not in ON_VM:
        pytest.skip("too slow in a machine that is emulated")
    need(box, program)
    argv = PROGRAMS[program]
    if program == "wget" and env:
        argv = (*argv, f"--ca-certificate={AUTHORITY}")
    return told(box, way, *argv, url, **env)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", PROGRAMS)
class TestFetching:
    def test_plain(self, box, world, program, way):
        done = fetch(box, program, way, world.url(PASSED))
        assert done.stdout == f"hello from {PASSED} over http\n", done

    def test_tls_that_is_passed_through(self, box, world, program, way):
        done = fetch(box, program, way, world.url(PASSED, "https"), **TRUST)
        assert done.stdout == f"hello from {PASSED} over https\n", done

    def test_tls_that_the_door_ends(self, box, world, program, way):
        done = fetch(box, program, way, world.url(INSPECTED, "https"))
        assert done.stdout == f"hello from {INSPECTED} over https\n", done

    def test_a_page_of_a_host_that_may_be_read_in_parts(self, box, world, program, way):
        done = fetch(box, program, way, world.url(PARTLY, "https", "/open/page.json"))
        assert json.loads(done.stdout) == {"open": True}, done
        done = fetch(box, program, way, world.url(PARTLY, "https", "/other"))
        refused = json.loads(done.stdout)["error"]
        assert (refused["code"], refused["host"], refused["path"]) == ("egress_denied", PARTLY, "/other")
        assert refused["remedy"].startswith("cloche policy allow ")

    def test_a_name_that_is_not_allowed(self, box, world, program, way):
        done = fetch(box, program, way, world.url(DENIED))
        if way == "proxy" and program != "node":
            assert json.loads(done.stdout)["error"]["code"] == "egress_denied", done
        else:
            assert done.exit_code
            assert done.stdout == ""
