"""`cloche mcp`."""

from __future__ import annotations

import click


@click.command("mcp")
def command() -> int:
    """Serve sandboxes to an agent as tools, over the Model Context Protocol on standard input and output.

    It is started by a client (an editor, a chat program), not by hand. Settings come from the environment.
    """
    from cloche.mcp import server

    server.main()
    return 0
