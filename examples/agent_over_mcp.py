"""What an agent's client does with examples/mcp.json: it starts the server, asks for its tools and calls them.

Put that file's content into your client's configuration; this program stands in for the client, so that the example
runs without one, and a script stands in for the model.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

#: what a model might ask for, one call after the other
CALLS = [
    ("write_file", {"path": "sales.csv", "content": "region,amount\nnorth,12\nsouth,30\n"}),
    ("execute_python_code", {"code": "import csv\nrows = list(csv.DictReader(open('sales.csv')))\nlen(rows)"}),
    ("execute_python_code", {"code": "print(sum(int(row['amount']) for row in rows))"}),
    ("run_command", {"command": "wc -l sales.csv"}),
    ("install_package", {"package": "requests"}),
]


def server() -> StdioServerParameters:
    """As configured, but of the installation that runs this program, whatever `cloche` is on PATH."""
    configured = json.loads(Path(__file__).with_name("mcp.json").read_text())["mcpServers"]["cloche"]
    return StdioServerParameters(
        command=sys.executable, args=["-m", "cloche.cli", *configured["args"]], env={**os.environ, **configured["env"]}
    )


async def main() -> None:
    async with stdio_client(server()) as streams, ClientSession(*streams) as session:
        await session.initialize()
        print("tools:", ", ".join(tool.name for tool in (await session.list_tools()).tools))
        for tool, arguments in CALLS:
            answer = await session.call_tool(tool, arguments)
            text = answer.content[0].text if answer.content else ""
            print(f"{tool}: {text.strip()}")


if __name__ == "__main__":
    asyncio.run(main())
