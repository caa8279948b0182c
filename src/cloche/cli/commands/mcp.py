"""`cloche mcp`."""

from __future__ import annotations

import click


@click.command("mcp")
def command() -> int:
    """Serve sandboxes to an agent as tools, over the Model Context Protocol on standard input and output.

    It is started by a client (an editor, a chat program), not by hand; most clients read such a configuration:

    \b
    {"mcpServers": {"cloche": {"command": "cloche", "args": ["mcp"]}}}

    Settings come from the environment: SANDBOX_TIMEOUT, MAX_SANDBOXES, LOG_LEVEL, CLOCHE_MCP_TEMPLATE,
    CLOCHE_MCP_SCOPE, CLOCHE_MCP_KEEP, CLOCHE_HOME.
    """
    from cloche.mcp import server

    server.main()
    return 0
