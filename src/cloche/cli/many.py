"""One operation on several sandboxes: what succeeds is printed, what fails is told, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
import msgspec

from cloche.cli import failure, progress, render
from cloche.model.errors import ClocheError
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import SandboxInfo


def each(boxes: Iterable[str], operation: Callable[[Sandbox], SandboxInfo | None], as_json: bool) -> int:
    """→ 0, or the status of the last failure."""
    status, done = 0, []
    for box in boxes:
        try:
            with progress.waiting(f"{click.get_current_context().info_name} {render.clean(box)}"):
                sandbox = Sandbox.from_id(box)
                info = operation(sandbox)
            done.append(msgspec.to_builtins(info) if info else {"id": sandbox.id})
            if not as_json:
                render.write(f"{render.clean(box)}\n")
        except ClocheError as error:
            status = failure.report(error)
    if as_json:
        render.print_json({"sandboxes": done})
    return status
