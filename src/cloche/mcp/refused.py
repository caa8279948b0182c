"""Which hosts the network policy refused while something ran that failed: a model that is told asks its user for them,
instead of trying the same in other ways."""

from __future__ import annotations

import asyncio
import contextlib

from cloche.mcp import bounds
from cloche.model.egress import AuditLine
from cloche.model.errors import ClocheError
from cloche.sdk._async.sandbox import AsyncSandbox

#: a connection gets its line when it is over, which may be a moment after who made it
PAUSES_SECONDS = (0.0, 0.1)
MAX_HOSTS, MAX_CHARS = 5, 500


async def notes(box: AsyncSandbox, began: float) -> list[str]:
    """For what failed and had `began` then (UTC seconds): one, or none where nothing was refused or none can say."""
    if box.known.spec.egress is None:
        return []
    for pause in PAUSES_SECONDS:
        await asyncio.sleep(pause)
        if hosts := await since(box, began):
            return [f"the network policy refused {hosts}; if it is needed, the user can allow it: "
                    f"cloche policy allow {box.id} HOST"]  # fmt: skip
    return []


async def since(box: AsyncSandbox, began: float) -> str:
    """The hosts in one line, or nothing."""
    with contextlib.suppress(ClocheError):
        return names(await box.egress_log(since=began, verdicts=["denied"]))
    return ""


def names(lines: list[AuditLine]) -> str:
    """The hosts in one line, each once."""
    hosts = dict.fromkeys(f"{line.host}:{line.port}" if line.port else line.host for line in lines)
    return bounds.one_line(", ".join(list(hosts)[:MAX_HOSTS]))[:MAX_CHARS]
