"""What a tool call becomes on the wire: text for the model, the same as data, and images."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from mcp import types as wire

from cloche.mcp import bounds
from cloche.model.errors import ClocheError


class Outcome(msgspec.Struct, kw_only=True):
    """The data of every answer. When the tool itself failed there is nothing else than `success` false, `error`, `code`
    and `remedy`. `notes`: what the caller should know besides."""

    success: bool = True
    error: str = ""
    code: str | None = None
    remedy: str | None = None
    notes: list[str] = []


class Image(msgspec.Struct, frozen=True):
    """`type` is a MIME type, `data` the bytes."""

    type: str
    data: bytes


class Reply(msgspec.Struct, frozen=True):
    """`text` is what a model reads."""

    outcome: Outcome
    text: str
    images: list[Image] = []


def result(reply: Reply) -> wire.CallToolResult:
    """A call that did its work, whatever became of the code that it ran."""
    notes = "".join(f"\n[{note}]" for note in reply.outcome.notes)
    return _result(reply.outcome, reply.text + notes, reply.images, is_error=False)


def failure(error: ClocheError) -> wire.CallToolResult:
    """A call that could not do its work."""
    remedy = f"\nWhat helps: {error.remedy}" if error.remedy else ""
    message = bounds.cut(error.message, 8192)
    outcome = Outcome(success=False, error=message, code=error.code, remedy=error.remedy)
    return _result(outcome, f"{error.code}: {message}{remedy}", [], is_error=True)


def _result(outcome: Outcome, text: str, images: list[Image], *, is_error: bool) -> wire.CallToolResult:
    data: Any = bounds.scrub(msgspec.to_builtins(outcome))
    content: list[wire.ContentBlock] = [wire.TextContent(text=bounds.scrub(text) or "(no output)")]
    for image in images:
        encoded = base64.b64encode(image.data).decode()
        content.append(wire.ImageContent(data=encoded, mime_type=image.type))
    return wire.CallToolResult(content=content, structured_content=data, is_error=is_error)
