"""What a tool is: the types of its arguments and result, what a client is told of it, and the function behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from mcp import types as wire

from cloche.mcp import network, schema
from cloche.mcp.answer import Outcome, Reply
from cloche.mcp.narration import Report
from cloche.mcp.sandboxes import Sandboxes
from cloche.mcp.settings import Settings

SandboxRef = (
    Annotated[
        str,
        msgspec.Meta(
            max_length=200,
            description="Id or name of the sandbox. Left out: a default sandbox, which is made on first use.",
        ),
    ]
    | None
)
Timeout = Annotated[float, msgspec.Meta(gt=0, le=86400)]


@dataclass(frozen=True, slots=True)
class Call:
    """What a tool works with. `report` None: the client does not want to hear of progress."""

    sandboxes: Sandboxes
    report: Report | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """`run` raises ClocheError when the work could not be done. `reaches_out`: it does what the network allows."""

    name: str
    title: str
    description: str
    arguments: type[msgspec.Struct]
    outcome: type[Outcome]
    run: Callable[[Call, Any], Awaitable[Reply]]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    reaches_out: bool = False

    async def call(self, call: Call, arguments: dict[str, Any]) -> Reply:
        return await self.run(call, schema.read(arguments, self.arguments))

    def on_wire(self, settings: Settings) -> wire.Tool:
        """As `tools/list` shows it, with what is true of the network of this server's sandboxes."""
        return wire.Tool(
            name=self.name,
            title=self.title,
            description=self.description.replace(network.PLACE, network.sentence(settings)),
            input_schema=schema.of(self.arguments),
            output_schema=schema.of(self.outcome),
            annotations=wire.ToolAnnotations(
                title=self.title,
                read_only_hint=self.read_only,
                destructive_hint=self.destructive,
                idempotent_hint=self.idempotent,
                open_world_hint=self.reaches_out and network.is_open(settings),
            ),
        )
