"""One execution of Python code in a sandbox's context, as the tool needs it: bounded, with pictures apart from text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloche.mcp import bounds, images
from cloche.mcp.answer import Image
from cloche.sdk._async.sandbox import AsyncSandbox

#: text forms of a result, the best for a model first
_TEXTS = ("text/markdown", "text/plain", "text/latex", "application/json", "text/html")
MAX_RESULTS = 200
#: of the results of one execution, which are base64 in memory before they are pictures
MAX_KEPT_BYTES = 24 << 20


@dataclass(slots=True)
class Ran:
    """`status` as in the model (ok, error, interrupted, timeout, context_ended); `error` name, message and traceback in
    one text; `result` the last expression; `shown` what was displayed on the way, as text."""

    output: bounds.HeadTail
    errors: bounds.HeadTail
    status: str = "ok"
    error: str = ""
    result: str = ""
    shown: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    images_left_out: int = 0
    state_kept: bool = True
    limit_hit: str | None = None
    wall_seconds: float = 0.0
    truncated: bool = False


async def python(box: AsyncSandbox, code: str, seconds: float, tell: Callable[[bytes], None]) -> Ran:
    """Run code in the default Python context, which keeps its variables for the next call. Raises ClocheError."""
    ran = Ran(bounds.HeadTail(), bounds.HeadTail(bounds.MAX_TEXT_BYTES // 2))
    done = await box.run_code(
        code,
        timeout_seconds=seconds,
        max_output_bytes=MAX_KEPT_BYTES,
        on_stdout=bounds.of_text(bounds.both(ran.output.add, tell)),
        on_stderr=bounds.of_text(bounds.both(ran.errors.add, tell)),
    )
    ran.status, ran.state_kept, ran.limit_hit = done.status, done.state_kept, done.limit_hit
    ran.wall_seconds = done.wall_seconds
    if done.error is not None:
        ran.error = bounds.cut(done.error.traceback or f"{done.error.name}: {done.error.message}")
    for result in done.results[:MAX_RESULTS]:
        _gather(ran, result.kind, result.data)
    ran.truncated = bool(ran.output.left_out or ran.errors.left_out or len(done.results) > MAX_RESULTS)
    return ran


def _gather(ran: Ran, kind: str, data: Mapping[str, Any]) -> None:
    image = images.of_bundle(data)
    if image is not None and len(ran.images) < images.MAX_IMAGES:
        ran.images.append(image)
    elif image is not None:
        ran.images_left_out += 1
    text = _text(data)
    if kind == "value":
        ran.result = text
    elif image is None and text:
        ran.shown.append(text)


def _text(data: Mapping[str, Any]) -> str:
    for name in _TEXTS:
        if name in data:
            value = data[name]
            return bounds.cut(value if isinstance(value, str) else repr(value), bounds.MAX_TEXT_BYTES // 4)
    return ""
