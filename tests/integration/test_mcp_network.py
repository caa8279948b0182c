"""Agents whose sandboxes have a network: packages come from an index of the tests' own, on loopback."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cloche import Sandbox
from tests.integration.dns_server import DnsServer
from tests.integration.mcp_clients import connected
from tests.integration.node_harness import namespace_home

HOST = "index.example"


def wheel(name: str, version: str) -> bytes:
    """A package with one module that says its version."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_hash(text.encode())},{len(text)}\n" for path, text in files.items())
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return data.getvalue()


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


WHEELS = {f"greet-{version}-py3-none-any.whl": wheel("greet", version) for version in ("1.0", "2.0")}


class _Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if name in WHEELS:
            return self._say(WHEELS[name], "application/zip")
        if self.path == "/simple/greet/":
            links = "".join(f'<a href="/files/{name}">{name}</a>' for name in WHEELS)
            return self._say(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
        return self.send_error(404)

    def _say(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Index) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    names = DnsServer()
    names.add(HOST, "127.0.0.1")
    try:
        with namespace_home(tmp_path_factory.mktemp("network") / "home", CLOCHE_DNS=names.address) as place:
            with Sandbox.create() as sandbox:
                if sandbox.exec("python3", "-m", "pip", "--version").exit_code:
                    pytest.skip("the machine's /usr has no pip: apt-get install python3-pip")
            yield place
    finally:
        names.close()


def talk(home: Path, work: Path, port: int, net: str, conversation) -> None:
    """A server whose machine has a pip that is configured for the index."""
    pip = {"PIP_INDEX_URL": f"http://{HOST}:{port}/simple", "PIP_TRUSTED_HOST": HOST}

    async def main() -> None:
        async with connected(home, work, "--net", net, **pip) as tools:
            await conversation(tools)

    anyio.run(main)


def test_a_package_is_fetched_and_a_running_interpreter_finds_it(home, port, tmp_path):
    async def conversation(tools):
        assert (await tools.execute_python_code(code="x = 1"))["success"]
        done = await tools.install_package(package="greet==1.0")
        assert done["success"], done.text
        assert done["installed_version"] == "1.0"
        assert (await tools.execute_python_code(code="import greet; greet.VERSION"))["result"] == "'1.0'"
        again = await tools.install_package(package="greet")
        assert "already" in again["output"]
        newer = await tools.install_package(package="greet == 2.0")
        assert newer["installed_version"] == "2.0"
        missing = await tools.install_package(package="surely-not-there")
        assert not missing["success"]
        assert missing["exit_code"] == 1
        assert "surely-not-there" in missing["output"]

    talk(home, tmp_path, port, f"{HOST}:{port}@127.0.0.0/8", conversation)


def test_what_the_policy_refuses_is_told_with_the_host(home, port, tmp_path):
    async def conversation(tools):
        described = {tool.name: tool.description for tool in (await tools.session.list_tools()).tools}
        assert "other.example" in described["install_package"]
        made = await tools.create_sandbox()
        assert made["network"] == "other.example"
        refused = await tools.install_package(package="greet", sandbox_id=made["sandbox_id"])
        assert refused.is_error
        assert refused["code"] == "egress_denied"
        assert f"{HOST}:{port}" in refused["error"]
        assert refused["remedy"]
        box = made["sandbox_id"]
        # other ports: of what is refused again and again only the first is in the log at once
        fetch = f"import urllib.request; urllib.request.urlopen('https://{HOST}:%d/')"
        for place, ran in (
            (f"{HOST}:443", await tools.run_command(command=f'python3 -c "{fetch % 443}"', sandbox_id=box)),
            (f"{HOST}:444", await tools.execute_python_code(code=fetch % 444, sandbox_id=box)),
        ):
            assert not ran["success"]
            assert any(place in note and box in note for note in ran["notes"]), ran["notes"]
        told = await tools.run_command(command="false", sandbox_id=box)
        assert not any("policy" in note for note in told["notes"])

    talk(home, tmp_path, port, "other.example", conversation)
