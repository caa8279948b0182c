"""apt inside a whole Debian, as a system of its own: a machine boots what mmdebstrap made, and apt, which there drops
its privileges for each download as everywhere, installs through the door. (The engine `namespace` has no image but the
host's own /usr, where the tests of packages run apt with a state of its own.)"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cloche import Sandbox
from scripts.prepare_debian_root import PLACE
from tests.integration import program_packages
from tests.integration.program_boxes import told
from tests.integration.program_packages import NAME, SAID
from tests.integration.program_world import DENIED, INSPECTED, PASSED, World, program_world
from tests.integration.vm_node import vm_node_in

SOURCES = "/etc/apt/sources.list"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with program_world(tmp_path_factory.mktemp("world")) as made:
        if shutil.which("dpkg-deb") is None:
            pytest.skip("dpkg-deb is not installed: this is no Debian")
        program_packages.debian_repository(made.files, tmp_path_factory.mktemp("package"))
        yield made


@pytest.fixture(scope="module")
def debian(vm_place, world, tmp_path_factory) -> Iterator[Sandbox]:
    if not PLACE.exists():
        pytest.skip("no Debian root: python3 dev.py test makes one, as root on Debian 12")
    place = replace(vm_place, directory=PLACE)
    home = tmp_path_factory.mktemp("node") / "home"
    with vm_node_in(place, vm_place.home(home), **world.settings) as node:
        box = node.create(net=world.net, user="root")
        assert box.exec("sh", "-c", f"rm -f /etc/apt/sources.list.d/* {SOURCES}").exit_code == 0
        yield box


def apt(box: Sandbox, way: str, *argv: str):
    return told(box, way, "apt-get", "-y", "-q", "-oAcquire::Retries=0", *argv, DEBIAN_FRONTEND="noninteractive")


@pytest.mark.parametrize(("way", "scheme", "host"), [("redirect", "http", PASSED), ("proxy", "https", INSPECTED)])
def test_apt_installs_what_the_policy_lets_it_reach(debian, world, way, scheme, host):
    debian.files.write(SOURCES, f"deb [trusted=yes] {world.url(host, scheme, '/debian/')} ./\n")
    for argv in (("update",), ("install", NAME)):
        done = apt(debian, way, *argv)
        assert done.exit_code == 0, done.stdout + done.stderr
        assert "W:" not in done.stderr and "E:" not in done.stderr, done.stderr
    assert debian.files.read("/opt/greeting") == f"{SAID}\n"
    assert debian.exec("dpkg", "-P", NAME, timeout_seconds=60).exit_code == 0


@pytest.mark.parametrize(("way", "said"), [("redirect", "Could not resolve"), ("proxy", "403")])
def test_a_host_that_is_not_allowed(debian, world, way, said):
    debian.files.write(SOURCES, f"deb [trusted=yes] {world.url(DENIED, 'http', '/debian/')} ./\n")
    done = apt(debian, way, "update", "-oAPT::Update::Error-Mode=any")
    assert done.exit_code == 100 and said in done.stderr, done.stdout + done.stderr
