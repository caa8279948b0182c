"""`cloche mcp` through the MCP Inspector's command line, a client in another language by other people."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest

import dev
from cloche import Sandbox
from tests.integration.mcp_clients import COMMAND, variables

INSPECTOR = dev.INSPECTOR / "node_modules/@modelcontextprotocol/inspector-cli/build/index.js"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not here: apt-get install nodejs npm"),
    pytest.mark.skipif(not INSPECTOR.exists(), reason="no MCP Inspector: `python3 dev.py test` fetches it by npm"),
]


@pytest.fixture
def inspect(real_home, tmp_path):
    def run(method: str, *arguments: str) -> Any:
        done = subprocess.run(
            ["node", str(INSPECTOR), *COMMAND, "--method", method, *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables(real_home)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    yield run
    assert Sandbox.list() == []


def test_the_tools_and_their_schemas(inspect):
    tools = {tool["name"]: tool for tool in inspect("tools/list")["tools"]}
    assert len(tools) == 9
    assert tools["execute_python_code"]["inputSchema"]["required"] == ["code"]
    assert tools["remove_sandbox"]["annotations"]["destructiveHint"] is True
    assert tools["list_files"]["outputSchema"]["type"] == "object"


def test_a_call_and_an_error(inspect):
    call = "tools/call", "--tool-name", "execute_python_code", "--tool-arg"
    done = inspect(*call, "code=print(6 * 7)", "timeout=20")
    assert (done["structuredContent"]["output"], done["isError"]) == ("42\n", False)
    refused = inspect("tools/call", "--tool-name", "remove_sandbox", "--tool-arg", "sandbox_id=none")
    assert refused["isError"] is True
    assert refused["structuredContent"]["code"] == "not_found"
