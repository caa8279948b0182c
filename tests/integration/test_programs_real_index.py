"""pip in a sandbox installs from the index that this machine's pip is configured for, whichever that is."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from cloche import Sandbox
from tests.integration.node_harness import namespace_home
from tests.integration.program_boxes import told

#: small, alone, and in any index of Python packages
WANTED = "idna"
PIP = ("python3", "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install", "--no-deps")
_BUILT_IN = "from pip._internal.cli.cmdoptions import index_url; print(index_url().default)"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def index() -> str:
    """Of the pip that belongs to the tests' Python, or of the machine's."""
    for python in (sys.executable, "python3"):
        for argv in (("-m", "pip", "config", "get", "global.index-url"), ("-c", _BUILT_IN)):
            found = subprocess.run([python, *argv], capture_output=True, text=True)
            if found.returncode == 0 and found.stdout.strip():
                return found.stdout.strip().rstrip("/") + "/"
    pytest.skip("this machine has no pip")


@pytest.fixture(scope="module")
def hosts(index: str) -> list[str]:
    """Of the index and of its files."""
    page = urljoin(index, f"{WANTED}/")
    try:
        with urllib.request.urlopen(page, timeout=20) as answer:
            text = answer.read(4 << 20).decode(errors="replace")
    except (OSError, ValueError) as error:
        pytest.skip(f"the index that pip is configured for cannot be reached: {error}")
    links = [page, *(urljoin(page, link) for link in re.findall(r'href="([^"#]+)', text))]
    return sorted({place.netloc for link in links if (place := urlsplit(link)).scheme == "https"})


@pytest.fixture(scope="module")
def home(hosts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not hosts:
        pytest.skip("the index that pip is configured for is not asked by TLS")
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
