"""All tools, in the order in which a client shows them."""

from __future__ import annotations

from cloche.mcp.tools import code, commands, files, packages, sandboxes
from cloche.mcp.tools.tool import Tool

TOOLS: tuple[Tool, ...] = (*code.TOOLS, *commands.TOOLS, *files.TOOLS, *packages.TOOLS, *sandboxes.TOOLS)
BY_NAME = {tool.name: tool for tool in TOOLS}
