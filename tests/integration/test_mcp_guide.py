"""What the guide tells people to put into their clients' configurations works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from cloche.mcp import settings
from cloche.mcp.tools.table import TOOLS
from tests.integration.mcp_clients import COMMAND, DEADLINE_SECONDS, variables

GUIDE = (Path(__file__).parents[2] / "docs/guides/mcp.md").read_text()
BLOCKS = re.findall(r"^```json\n(.*?)^```$", GUIDE, re.M | re.S)


def servers(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for value in found.values():
        if isinstance(value, dict):
            yield from [value] if "command" in value else servers(value)


def test_there_is_a_block_for_each_client():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_the_guide_starts_a_server(block, real_home, tmp_path):
    (server,) = servers(json.loads(block))
    assert (server["command"], server["args"][0]) == ("cloche", "mcp")

    async def main():
        environment = variables(real_home, **server.get("env", {}))
        start = StdioServerParameters(
            command=COMMAND[0], args=[*COMMAND[1:-1], *server["args"]], env=environment, cwd=tmp_path
        )
        with anyio.fail_after(DEADLINE_SECONDS):
            async with stdio_client(start) as streams, ClientSession(*streams) as session:
                await session.initialize()
                assert len((await session.list_tools()).tools) == len(TOOLS)

    anyio.run(main)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_guide_names_every_tool_with_its_arguments(tool):
    (row,) = [line for line in GUIDE.splitlines() if line.startswith(f"| `{tool.name}` |")]
    named = set(re.findall(r"`(\w+)`", row.split("|")[2]))
    assert named == set(tool.arguments.__struct_fields__)


def test_the_guide_names_every_setting():
    source = Path(settings.__file__).read_text()
    for name in {*settings.OMCP_NAMES, *re.findall(r'"(CLOCHE_MCP_\w+)"', source)}:
        assert f"| `{name}` |" in GUIDE
