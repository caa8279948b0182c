"""Code that runs in a new sandbox before anybody has it, because its template asks for that."""

from __future__ import annotations

from collections.abc import Iterable

from cloche.guest_api import Guest
from cloche.model.code import CodeEnded, CodeError, CodeSpec
from cloche.model.errors import UnavailableError
from cloche.model.template import WarmContext

#: imports of large packages from a cold disk take many seconds
WARM_SECONDS = 120.0
MAX_MESSAGE_CHARS = 500


async def warm(guest: Guest, contexts: Iterable[WarmContext]) -> None:
    """Start the default context of each language and run its code. Raises UnavailableError when the code fails, and
    InterpreterMissingError."""
    for context in contexts:
        await _run(guest, context)


async def _run(guest: Guest, context: WarmContext) -> None:
    spec = CodeSpec(code=context.code, language=context.language, timeout_seconds=WARM_SECONDS)
    said, status = "", "context_ended"
    async with guest.execute(spec) as events:
        async for event in events:
            if isinstance(event, CodeError):
                said = f"{event.name}: {event.message}"
            elif isinstance(event, CodeEnded):
                status = event.status
    if status != "ok":
        why = (said or status)[:MAX_MESSAGE_CHARS]
        raise UnavailableError(
            f"the template's {context.language} code failed in a new sandbox: {why}", remedy="mend the template's code"
        )
