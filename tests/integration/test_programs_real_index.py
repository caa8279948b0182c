"""pip in a sandbox installs from the index that this machine's pip is configured for, whichever that is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.node_harness import namespace_home
from tests.integration.program_boxes import told
from tests.integration.program_index import configured_index, hosts_of

#: small, alone, and in any index of Python packages
WANTED = "idna"
PIP = ("python3", "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install", "--no-deps")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def index() -> str:
    return configured_index()


@pytest.fixture(scope="module")
def hosts(index: str) -> list[str]:
    return hosts_of(index, WANTED)


@pytest.fixture(scope="module")
def home(hosts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with namespace_home(tmp_path_factory.mktemp("node") / "home") as place:
        yield place


@pytest.mark.parametrize(("way", "how"), [("redirect", ""), ("proxy", ""), ("redirect", " inspect")])
def test_a_package(home: Path, index: str, hosts: list[str], way: str, how: str) -> None:
    with Sandbox.create(net=",".join(f"{host}{how}" for host in hosts)) as box:
        if box.exec("python3", "-m", "pip", "--version").exit_code:
            pytest.skip("the machine's /usr has no pip: apt-get install python3-pip")
        done = told(box, way, *PIP, "--index-url", index, "--target", "/tmp/real", WANTED)
        assert done.exit_code == 0, done.stdout + done.stderr
        said = box.exec("python3", "-c", f"import {WANTED}; print({WANTED}.__file__)", env={"PYTHONPATH": "/tmp/real"})
        assert said.stdout == f"/tmp/real/{WANTED}/__init__.py\n"
