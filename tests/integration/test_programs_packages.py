"""pip, npm and apt install from servers of the tests' own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration import program_packages
from tests.integration.program_boxes import WAYS, need, node_of, told
from tests.integration.program_packages import NAME, SAID
from tests.integration.program_world import DENIED, INSPECTED, PASSED, World, program_world

AUTHORITY = "/tmp/upstream.pem"
PIP = ("python3", "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir")
#: TLS that is passed through, and such that the door ends
HOSTS = (PASSED, INSPECTED)
#: npm takes more than a sandbox has by default; as an ordinary user that is no limit
ROOM = {"memory": "1g"} if os.geteuid() == 0 else {}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with program_world(tmp_path_factory.mktemp("world")) as made:
        program_packages.python_index(made.files)
        yield made


@pytest.fixture(scope="module")
def box(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    home = tmp_path_factory.mktemp("node") / "home"
    with (
        node_of("namespace", request, home, **world.settings) as create,
        create(net=world.net, user="root", **ROOM) as made,
    ):
        made.files.write(AUTHORITY, Path(world.authority.file).read_bytes())
        yield made


def trust(host: str) -> dict[str, str]:
    """Of TLS that the door does not end."""
    if host != PASSED:
        return {}
    return dict.fromkeys(("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), AUTHORITY)


@pytest.mark.parametrize("way", WAYS)
class TestPip:
    @pytest.fixture(autouse=True)
    def _pip(self, box):
        if box.exec("python3", "-m", "pip", "--version").exit_code:
            pytest.skip("the machine's /usr has no pip: apt-get install python3-pip")

    def install(self, box: Sandbox, way: str, index: str, target: str, *wanted: str, **env: str):
        options = ("--retries", "1", "--timeout", "30", "--index-url", index, "--target", target)
        cert = ("--cert", env["PIP_CERT"]) if "PIP_CERT" in env else ()
        # --isolated reads no variables of pip's own, by which it is told of authorities
        pip = PIP if cert else tuple(word for word in PIP if word != "--isolated")
        return told(box, way, *pip, *cert, "install", *options, *wanted, **env)

    @pytest.mark.parametrize("host", HOSTS)
    def test_an_index_of_our_own(self, box, world, host, way):
        target, index = f"/tmp/{way}-{host}", world.url(host, "https", "/simple/")
        done = self.install(box, way, index, target, "greet", **trust(host))
        assert done.exit_code == 0, done.stdout + done.stderr
        said = box.exec("python3", "-c", "import greet; print(greet.VERSION)", env={"PYTHONPATH": target})
        assert said.stdout == "1.0\n"

    def test_without_a_word_about_where_to(self, box, world, way):
        index = ("--index-url", world.url(INSPECTED, "https", "/simple/"))
        done = told(box, way, "python3", "-m", "pip", "install", "--force-reinstall", *index, "greet")
        assert done.exit_code == 0, done.stdout + done.stderr
        assert box.exec("python3", "-c", "import greet; print(greet.VERSION)").stdout == "1.0\n"

    def test_a_host_that_is_not_allowed(self, box, world, way):
        done = self.install(box, way, world.url(DENIED, "https", "/simple/"), "/tmp/none", "greet")
        assert done.exit_code == 1
        reason = "403 Forbidden" if way == "proxy" else "Name or service not known|name resolution|NXDOMAIN"
        assert re.search(reason, done.stdout + done.stderr), done.stdout + done.stderr


@pytest.mark.parametrize("way", WAYS)
class TestNpm:
    def install(self, box: Sandbox, way: str, registry: str, target: str, **env: str):
        need(box, "npm", "node")
        options = ("--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=0", "--prefix", target)
        return told(box, way, "npm", "install", *options, f"--registry={registry}", NAME, **env)

    @pytest.mark.parametrize("host", HOSTS)
    def test_a_registry_of_our_own(self, box, world, host, way):
        program_packages.npm_registry(world.files, world.url(host, "https", ""))
        target = f"/tmp/npm-{way}-{host}"
        env = {"npm_config_cache": f"{target}-cache", **trust(host)}
        done = self.install(box, way, world.url(host, "https", "/npm/"), target, **env)
        assert done.exit_code == 0, done.stdout + done.stderr
        said = box.exec("node", "-p", f"require('{target}/node_modules/{NAME}')")
        assert said.stdout == f"{SAID}\n"

    def test_a_host_that_is_not_allowed(self, box, world, way):
        done = self.install(box, way, world.url(DENIED, "http", "/npm/"), "/tmp/npm-none")
        assert done.exit_code != 0
        assert ("403" if way == "proxy" else "ENOTFOUND") in done.stderr


@pytest.mark.parametrize("way", WAYS)
class TestApt:
    #: a state of its own: the image `host` shows the machine's /usr without a package database to go with it. A whole
    #: Debian with apt in it has a test of its own
    OPTIONS = (
        "-oDir::State=/tmp/apt/state", "-oDir::Cache=/tmp/apt/cache", "-oDir::State::status=/var/lib/dpkg/status",
        "-oDir::Etc::sourcelist=/tmp/apt/sources.list", "-oDir::Etc::sourceparts=-", "-oAPT::Sandbox::User=root",
        "-oAcquire::Retries=0", "-oDir::Log=/tmp/apt", "-oDir::Etc=/tmp/apt/etc",
    )  # fmt: skip

    @pytest.fixture(autouse=True)
    def _apt(self, box, world, tmp_path):
        if shutil.which("dpkg-deb") is None:
            pytest.skip("dpkg-deb is not installed: this is no Debian")
        need(box, "apt-get", "dpkg")
        if not (world.files / "debian").exists():
            program_packages.debian_repository(world.files, tmp_path)
        places = "state/lists/partial cache/archives/partial etc/apt.conf.d etc/preferences.d"
        more = "/etc/apt/apt.conf.d /var/lib/dpkg/info /var/lib/dpkg/updates"
        script = (
            f"rm -rf /tmp/apt /var/lib/dpkg /opt/greeting; mkdir /tmp/apt && cd /tmp/apt && mkdir -p {places} {more}"
        )
        script += " && touch /var/lib/dpkg/status"
        assert box.exec("sh", "-c", script).exit_code == 0

    def apt(self, box: Sandbox, way: str, *argv: str, **env: str):
        return told(box, way, "apt-get", *self.OPTIONS, "-y", *argv, DEBIAN_FRONTEND="noninteractive", **env)

    @pytest.mark.parametrize(("scheme", "host"), [("http", PASSED), ("https", INSPECTED)])
    def test_a_repository_of_our_own(self, box, world, scheme, host, way):
        box.files.write("/tmp/apt/sources.list", f"deb [trusted=yes] {world.url(host, scheme, '/debian/')} ./\n")
        for argv in (("update",), ("install", NAME)):
            done = self.apt(box, way, *argv)
            assert done.exit_code == 0, done.stdout + done.stderr
            assert "W:" not in done.stderr and "E:" not in done.stderr, done.stderr
        assert box.files.read("/opt/greeting") == f"{SAID}\n"

    def test_a_host_that_is_not_allowed(self, box, world, way):
        box.files.write("/tmp/apt/sources.list", f"deb [trusted=yes] {world.url(DENIED, 'http', '/debian/')} ./\n")
        done = self.apt(box, way, "update", "-oAPT::Update::Error-Mode=any")
        assert done.exit_code == 100
        assert ("403" if way == "proxy" else "Could not resolve") in done.stderr, done.stderr
