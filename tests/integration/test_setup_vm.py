"""`cloche setup` through command line, SDK and node, with a mirror on the loopback."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cloche.engines.vm import assets
from tests import package_mirror
from tests.integration.node_harness import DEADLINE_SECONDS, SOURCE, ask, end_node, environment
from tests.package_mirror import Mirror, head

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the mirror has packages for x86-64 only")

#: an engine of another package, as the vm engine is set up, on the fake engine's shoulders
ENGINE = """
from pathlib import Path
from cloche.engines.fake.engine import FakeEngine
from cloche.engines.vm import setup

class BoxedEngine(FakeEngine):
    name = "boxed"

    def __init__(self, home):
        super().__init__(home)
        self._place = home

    async def setup(self, options, report):
        await setup.setup(self._place, Path(__file__).with_name("guest"), options, report)
"""


class Machine:
    """A data directory, the mirror that its set-up asks, and the command line for both."""

    def __init__(self, home: Path, mirror: Mirror, address: str, environ: Mapping[str, str]) -> None:
        self.home, self.mirror, self.environ = home, mirror, environ
        self.asks = ["--mirror", address, "--suite", package_mirror.SUITE, "--keyring", str(mirror.signing.keyring)]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cloche.cli", "setup", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environ, capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )

    def fetched(self) -> int:
        return [path for path, _ in self.mirror.asked].count(self.mirror.deb)


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[package_mirror.Key]:
    with package_mirror.key(tmp_path_factory.mktemp("gpg") / "key") as made:
        yield made


@pytest.fixture
def machine(tmp_path: Path, signing: package_mirror.Key) -> Iterator[Machine]:
    package = tmp_path / "package"
    (package / "boxed-1.dist-info").mkdir(parents=True)
    (package / "boxed.py").write_text(ENGINE)
    (package / "guest").write_bytes(b"guest")
    (package / "boxed-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: boxed\nVersion: 1\n")
    (package / "boxed-1.dist-info/entry_points.txt").write_text("[cloche.engines]\nboxed = boxed:BoxedEngine\n")
    home = tmp_path / "home"
    mirror = Mirror(signing)
    environ = environment(CLOCHE_HOME=str(home), PYTHONPATH=f"{SOURCE}:{package}", TERM="dumb")
    environ = {name: value for name, value in environ.items() if not name.lower().endswith("_proxy")}
    with package_mirror.served(mirror) as address:
        try:
            yield Machine(home, mirror, address, environ)
        finally:
            mirror.released.set()
            end_node(home)


def test_from_nothing_and_once_more(machine: Machine) -> None:
    done = machine.run("boxed", *machine.asks)
    assert (done.returncode, done.stdout) == (0, "engine boxed is set up\n"), done.stderr
    assert "kernel: Linux 6.1.0-9-cloud-amd64" in done.stderr and "package: linux-image-6.1.0-9" in done.stderr
    found = assets.find(machine.home)
    assert found is not None and assets.verify(machine.home) == []
    again = machine.run("boxed", "--json")
    said = json.loads(again.stdout)
    assert (said["engine"], said["done"], again.stderr) == ("boxed", True, "")
    assert [step["step"] for step in said["steps"]][:2] == ["kernel", "initramfs"]
    assert machine.fetched() == 1 and assets.find(machine.home) == found


def test_what_can_be_set_up_is_listed(machine: Machine) -> None:
    listed = machine.run("--json")
    names = [each["name"] for each in json.loads(listed.stdout)["engines"]]
    assert "boxed" in names and "namespace" not in names and "fake" not in names
    assert "boxed" in machine.run().stdout


def test_what_cannot_be_done_is_said_with_what_mends_it(machine: Machine) -> None:
    for arguments, message, remedy in (
        (["nothing"], "there is no engine 'nothing'", "one of:"),
        (["namespace"], "engine 'namespace' needs no set-up", "cloche doctor"),
        (["boxed", "--kernel", "/nothing"], "/nothing cannot be booted: No such file", ""),
        (["boxed", "--mirror", "ftp://x"], "mirror must be an http or https address", ""),
    ):
        done = machine.run(*arguments)
        assert done.returncode == 125 and done.stdout == ""
        assert message in done.stderr and remedy in done.stderr


def test_a_mirror_that_lies_is_told_and_nothing_is_kept(machine: Machine) -> None:
    machine.mirror.files[machine.mirror.deb] = bytes(len(machine.mirror.files[machine.mirror.deb]))
    done = machine.run("boxed", *machine.asks)
    assert done.returncode == 125 and "signed index names" in done.stderr and "--mirror URL" in done.stderr
    assert assets.find(machine.home) is None
    machine.mirror.publish()
    assert machine.run("boxed", *machine.asks).returncode == 0


def test_the_api_refuses_what_it_cannot_read(machine: Machine) -> None:
    assert machine.run().returncode == 0
    path = "/v1/engines/boxed/setup"
    for body in (
        {"options": {"kernel": 1}},
        {"options": {"A B": "x"}},
        {"more": 1},
        {"options": {"suite": "x" * 5000}},
    ):
        assert ask(machine.home, "POST", path, body)[0] == 422
    status, body = ask(machine.home, "POST", path, {"options": {"odd": "1"}})
    assert (status, body["error"]["code"]) == (422, "invalid")
    status, body = ask(machine.home, "POST", "/v1/engines/namespace/setup", {})
    assert (status, body["error"]["code"]) == (501, "unavailable_here")


def test_a_client_that_goes_away_ends_it_and_the_next_goes_on(machine: Machine) -> None:
    whole = machine.mirror.files[machine.mirror.deb]
    begun = threading.Event()

    def stalled(request) -> bool:
        head(request, len(whole))
        request.wfile.write(whole[:1000])
        request.wfile.flush()
        begun.set()
        machine.mirror.released.wait(DEADLINE_SECONDS)
        request.close_connection = True
        return True

    machine.mirror.behave[machine.mirror.deb] = stalled
    client = subprocess.Popen(machine.command("boxed", *machine.asks), env=machine.environ, stderr=subprocess.PIPE)
    assert begun.wait(DEADLINE_SECONDS)
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=DEADLINE_SECONDS)
    assert client.returncode == 130 and assets.find(machine.home) is None
    machine.mirror.behave.clear()
    machine.mirror.released.set()
    assert machine.run("boxed", *machine.asks).returncode == 0
    assert assets.verify(machine.home) == []


def test_two_at_once_fetch_once(machine: Machine) -> None:
    argv = machine.command("boxed", *machine.asks)
    both = [subprocess.Popen(argv, env=machine.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "12"]
    for client in both:
        _, errors = client.communicate(timeout=DEADLINE_SECONDS)
        assert client.returncode == 0, errors
    assert machine.fetched() == 1
    assert assets.verify(machine.home) == []
