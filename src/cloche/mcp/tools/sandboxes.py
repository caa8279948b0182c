"""create_sandbox, list_sandboxes, remove_sandbox."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from cloche.mcp import bounds, network
from cloche.mcp.answer import Outcome, Reply
from cloche.mcp.tools.tool import Call, Tool
from cloche.sdk.egress_values import words
from cloche.sdk.options import SandboxOptions
from cloche.sdk.values import SandboxInfo

#: more would make the answer, not the sandboxes, the trouble
MAX_LISTED = 200


class CreateArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: (
        Annotated[
            str,
            msgspec.Meta(max_length=63, description="A name to use instead of the id: a-z, 0-9, `.`, `_`, `-`."),
        ]
        | None
    ) = None
    template: Annotated[str, msgspec.Meta(max_length=63, description="A template of the user's.")] | None = None
    timeout: (
        Annotated[
            float,
            msgspec.Meta(gt=0, le=366 * 86400, description="Seconds without use after which it is removed (300)."),
        ]
        | None
    ) = None
    memory_mib: Annotated[int, msgspec.Meta(ge=16, le=65536, description="Memory in MiB (512).")] | None = None
    cpus: Annotated[float, msgspec.Meta(gt=0, le=64, description="CPUs (1).")] | None = None
    disk_mib: Annotated[int, msgspec.Meta(ge=16, le=65536, description="Disk in MiB (1024).")] | None = None
    env: Annotated[dict[str, str], msgspec.Meta(description="Environment variables of all that runs in it.")] = {}


class ListArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    include_inactive: Annotated[bool, msgspec.Meta(description="Also those that have stopped or failed.")] = False


class RemoveArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    sandbox_id: Annotated[str, msgspec.Meta(max_length=200, description="Id or name of the sandbox.")]
    force: Annotated[bool, msgspec.Meta(description="Also when a call is running in it, which then fails.")] = False


class Created(Outcome, kw_only=True):
    """Times are ISO 8601, UTC. `network`: "closed", nothing can be reached from inside but the sandbox itself, or the
    words of its policy."""

    sandbox_id: str = ""
    name: str | None = None
    created_at: str | None = None
    last_used: str | None = None
    expires_at: str | None = None
    engine: str = ""
    isolation: str = ""
    network: str = "closed"


class Listed(msgspec.Struct, kw_only=True):
    id: str
    name: str | None
    state: str
    reason: str | None
    created_at: str | None
    last_used: str | None
    expires_at: str | None
    default: bool


class Listing(Outcome, kw_only=True):
    """`count` of all; `sandboxes` are the oldest of them where they are very many."""

    sandboxes: list[Listed] = []
    count: int = 0


class Removed(Outcome, kw_only=True):
    sandbox_id: str = ""
    message: str = ""


async def create(call: Call, given: CreateArguments) -> Reply:
    options: SandboxOptions = {
        "name": given.name,
        "template": given.template,
        "memory": given.memory_mib,
        "cpus": given.cpus,
        "disk": given.disk_mib,
        "env": given.env,
        "ttl_seconds": given.timeout,
    }
    info = await (await call.sandboxes.create(**options)).info()
    created = Created(
        sandbox_id=info.id,
        name=info.name,
        created_at=iso(info.created_at),
        last_used=iso(info.created_at),
        expires_at=iso(info.expires_at),
        engine=info.engine,
        isolation=info.isolation,
        network=words(info.spec.egress) if info.spec.egress is not None else "closed",
    )
    made = f"Made sandbox {info.id}{f' ({info.name})' if info.name else ''}."
    return Reply(created, f"{made} {network.said(info.spec.egress)}")


async def list_all(call: Call, given: ListArguments) -> Reply:
    found = await call.sandboxes.known(include_inactive=given.include_inactive)
    listed = [_listed(call, info) for info in found[:MAX_LISTED]]
    lines = [_line(one) for one in listed]
    more = len(found) - len(listed)
    text = "\n".join([*lines, *([f"[… and {more} more]"] if more else [])]) or "There are no sandboxes."
    return Reply(Listing(sandboxes=listed, count=len(found)), text)


async def remove(call: Call, given: RemoveArguments) -> Reply:
    sandbox_id = await call.sandboxes.remove(given.sandbox_id, force=given.force)
    message = f"Sandbox {sandbox_id} was removed with everything in it."
    return Reply(Removed(sandbox_id=sandbox_id, message=message), message)


def iso(seconds: float | None) -> str | None:
    """UTC seconds as ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds is not None else None


def _listed(call: Call, info: SandboxInfo) -> Listed:
    return Listed(
        id=info.id,
        name=info.name,
        state=info.state,
        reason=info.reason,
        created_at=iso(info.created_at),
        last_used=iso(call.sandboxes.last_used(info.id)),
        expires_at=iso(info.expires_at),
        default=call.sandboxes.is_default(info.id),
    )


def _line(one: Listed) -> str:
    marks = [one.state, *([f"named {one.name}"] if one.name else []), *(["the default one"] if one.default else [])]
    return f"{one.id}  {', '.join(marks)}, expires {bounds.one_line(one.expires_at or 'never')}"


TOOLS = (
    Tool(
        name="create_sandbox",
        title="Create a sandbox",
        description=(
            "Make a fresh Linux sandbox with Python and the machine's usual programs and its own files. {network} "
            "Only needed for a second, separate place or for limits of its own: the other tools use a default sandbox "
            "when sandbox_id is left out. It is removed when it has not been used for `timeout` seconds."
        ),
        arguments=CreateArguments,
        outcome=Created,
        run=create,
    ),
    Tool(
        name="list_sandboxes",
        title="List sandboxes",
        description="List the sandboxes that can be used here, with state, name and when they expire.",
        arguments=ListArguments,
        outcome=Listing,
        run=list_all,
        read_only=True,
    ),
    Tool(
        name="remove_sandbox",
        title="Remove a sandbox",
        description="Remove a sandbox with all its files, variables and processes. This cannot be undone.",
        arguments=RemoveArguments,
        outcome=Removed,
        run=remove,
        destructive=True,
    ),
)
