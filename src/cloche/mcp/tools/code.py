"""execute_python_code."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec

from cloche.mcp import bounds, refused, running
from cloche.mcp.answer import Outcome, Reply
from cloche.mcp.narration import narrated
from cloche.mcp.tools.tool import Call, SandboxRef, Timeout, Tool

DEFAULT_SECONDS = 30.0
MAX_CODE_CHARACTERS = 4 << 20
_EXIT_CODES = {"ok": 0, "error": 1, "interrupted": 130, "timeout": 124, "context_ended": 137}
_ENDINGS = {
    "timeout": "the time was up",
    "interrupted": "it was interrupted",
    "context_ended": "the interpreter ended",
}


class CodeArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE_CHARACTERS, description="Python code, one or many lines.")]
    sandbox_id: SandboxRef = None
    timeout: Annotated[Timeout, msgspec.Meta(description="Seconds it may take (30); then it is stopped.")] | None = None


class CodeRan(Outcome, kw_only=True):
    """`output` is what the code printed, `error` what it printed to standard error and its traceback, `result` the
    value of its last expression as text. `status`: ok, error, interrupted, timeout or context_ended; `exit_code` the
    same as a number (0, 1, 130, 124, 137). `state_kept` false: all variables are gone. Images come beside this."""

    sandbox_id: str = ""
    output: str = ""
    result: str | None = None
    exit_code: int | None = None
    status: str = ""
    state_kept: bool = True
    limit_hit: str | None = None
    images: int = 0
    truncated: bool = False
    wall_seconds: float = 0.0


async def execute(call: Call, given: CodeArguments) -> Reply:
    seconds = given.timeout or DEFAULT_SECONDS
    began = time.time()
    async with call.sandboxes.using(given.sandbox_id, seconds) as (box, notes):
        async with narrated(call.report, seconds) as tell:
            ran = await running.python(box, given.code, seconds, tell)
        why = await refused.notes(box, began) if ran.status != "ok" else []
    return _reply(_outcome(box.id, ran, [*notes, *why]), ran)


def _outcome(sandbox_id: str, ran: running.Ran, notes: list[str]) -> CodeRan:
    shown = "\n".join(ran.shown)
    printed = ran.output.text()
    return CodeRan(
        success=ran.status == "ok",
        sandbox_id=sandbox_id,
        output=bounds.cut(f"{printed}\n{shown}" if printed and shown else printed or shown),
        error="\n".join(part for part in (ran.errors.text().rstrip(), ran.error.rstrip()) if part),
        result=ran.result or None,
        exit_code=_EXIT_CODES.get(ran.status, 1),
        status=ran.status,
        state_kept=ran.state_kept,
        limit_hit=ran.limit_hit,
        images=len(ran.images),
        truncated=ran.truncated,
        wall_seconds=round(ran.wall_seconds, 3),
        notes=[*notes, *_remarks(ran)],
    )


def _remarks(ran: running.Ran) -> list[str]:
    remarks = [_ENDINGS[ran.status]] if ran.status in _ENDINGS else []
    if ran.limit_hit and ran.limit_hit != ran.status:
        remarks.append(f"the limit {ran.limit_hit} was hit")
    if not ran.state_kept:
        remarks.append("all variables and imports of this sandbox are gone; its files are kept")
    if ran.images_left_out:
        remarks.append(f"{ran.images_left_out} more images were left out")
    return remarks


def _reply(outcome: CodeRan, ran: running.Ran) -> Reply:
    parts = [outcome.output.rstrip("\n")] if outcome.output else []
    parts += [outcome.result] if outcome.result else []
    parts += [f"stderr:\n{ran.errors.text().rstrip()}"] if ran.errors.total else []
    parts += [ran.error.rstrip()] if ran.error else []
    return Reply(outcome, "\n".join(parts), ran.images)


TOOLS = (
    Tool(
        name="execute_python_code",
        title="Execute Python code",
        description=(
            "Run Python code in the sandbox, as a cell of a notebook: variables, imports and functions stay for the "
            "next call, and the value of the last expression is shown. Figures of matplotlib come back as images, no "
            "plt.show or file needed. {network} An exception is a normal result with its traceback. Code "
            "that takes longer than `timeout` seconds is stopped."
        ),
        arguments=CodeArguments,
        outcome=CodeRan,
        run=execute,
        destructive=True,
        reaches_out=True,
    ),
)
