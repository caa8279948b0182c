"""`cloche mcp`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cloche.cli import arguments


@click.command("mcp")
@arguments.network_flags
def command(net: str | None, secrets: Sequence[str]) -> int:
    """Serve sandboxes to an agent as tools, over the Model Context Protocol on standard input and output.

    It is started by a client (an editor, a chat program), not by hand; most clients read such a configuration:

    \b
    {"mcpServers": {"cloche": {"command": "cloche", "args": ["mcp"]}}}

    --net and --secret are of all sandboxes that it makes, as for `cloche run`; the agent cannot change them:

    \b
    {"mcpServers": {"cloche": {"command": "cloche", "args": ["mcp", "--net", "pypi"]}}}

    Other settings come from the environment: SANDBOX_TIMEOUT, MAX_SANDBOXES, LOG_LEVEL, CLOCHE_MCP_TEMPLATE,
    CLOCHE_MCP_SCOPE, CLOCHE_MCP_KEEP, CLOCHE_HOME.
    """
    from cloche.mcp import server

    server.main(**arguments.network(net, secrets))
    return 0
