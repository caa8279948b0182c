"""run_command."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec

from cloche.mcp import bounds, refused
from cloche.mcp.answer import Outcome, Reply
from cloche.mcp.narration import narrated
from cloche.mcp.tools.tool import Call, SandboxRef, Timeout, Tool
from cloche.sdk.values import ExecResult

DEFAULT_SECONDS = 60.0
#: bash where there is one, since that is what models write
_SHELL = 'if command -v bash >/dev/null 2>&1; then exec bash -c "$0"; else exec sh -c "$0"; fi'


class CommandArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    command: Annotated[
        str, msgspec.Meta(min_length=1, max_length=100_000, description="A shell command line, e.g. `ls -l | head`.")
    ]
    sandbox_id: SandboxRef = None
    timeout: Annotated[Timeout, msgspec.Meta(description="Seconds it may take (60); then it is ended.")] | None = None
    workdir: Annotated[str, msgspec.Meta(description="Directory to run it in (home).")] | None = None
    env: Annotated[dict[str, str], msgspec.Meta(description="Environment variables for this command.")] = {}
    stdin: Annotated[str, msgspec.Meta(description="What it reads on standard input.")] | None = None


class CommandRan(Outcome, kw_only=True):
    """`output` is standard output, `error` standard error. `success`: the exit code was 0. `exit_code` 124: timeout,
    127: no such program. `truncated`: the middle of something long was left out."""

    sandbox_id: str = ""
    output: str = ""
    exit_code: int | None = None
    limit_hit: str | None = None
    truncated: bool = False
    wall_seconds: float = 0.0


async def run(call: Call, given: CommandArguments) -> Reply:
    seconds = given.timeout or DEFAULT_SECONDS
    out, err = bounds.HeadTail(), bounds.HeadTail(bounds.MAX_TEXT_BYTES // 2)
    began = time.time()
    async with call.sandboxes.using(given.sandbox_id, seconds) as (box, notes):
        async with narrated(call.report, seconds) as tell:
            done = await box.exec(
                "sh", "-c", _SHELL, given.command,
                stdin=given.stdin, env=given.env, cwd=given.workdir, timeout_seconds=seconds, max_output_bytes=0,
                on_stdout=bounds.both(out.add, tell), on_stderr=bounds.both(err.add, tell),
            )  # fmt: skip
        why = await refused.notes(box, began) if done.exit_code else []
    return _reply(_ran(box.id, done, out, err, [*notes, *why]))


def _ran(sandbox_id: str, done: ExecResult, out: bounds.HeadTail, err: bounds.HeadTail, notes: list[str]) -> CommandRan:
    ended = {"timeout": "the time was up, so it was ended", "memory": "it was ended since the memory is full"}
    because = [ended.get(done.limit_hit, f"the limit {done.limit_hit} was hit")] if done.limit_hit else []
    return CommandRan(
        success=done.exit_code == 0,
        sandbox_id=sandbox_id,
        output=out.text(),
        error=err.text() or done.error or "",
        exit_code=done.exit_code,
        limit_hit=done.limit_hit,
        truncated=bool(out.left_out or err.left_out),
        wall_seconds=round(done.usage.wall_seconds, 3),
        notes=[*notes, *because],
    )


def _reply(ran: CommandRan) -> Reply:
    parts = [ran.output.rstrip("\n")] if ran.output else []
    parts += [f"stderr:\n{ran.error.rstrip()}"] if ran.error else []
    parts += [f"exit code {ran.exit_code}"] if ran.exit_code else []
    return Reply(ran, "\n".join(parts))


TOOLS = (
    Tool(
        name="run_command",
        title="Run a shell command",
        description=(
            "Run a shell command in the sandbox and wait for its end. Each call is a new shell: the working directory "
            "and variables do not carry over, files do. {network} A non-zero exit code is a normal result."
        ),
        arguments=CommandArguments,
        outcome=CommandRan,
        run=run,
        destructive=True,
        reaches_out=True,
    ),
)
