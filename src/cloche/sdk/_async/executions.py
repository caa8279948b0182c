"""One execution of code: its events as they come, over broken connections and restarts of the node."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from cloche.model.code import Accepted, CodeEnded, CodeEvent, CodeGap, CodeOutput, Keepalive
from cloche.model.errors import ClocheError, NotFoundError, TimedOutError, WrongStateError
from cloche.sdk import wire
from cloche.sdk._async import bridge
from cloche.sdk._async.patience import AsyncPatience
from cloche.sdk._async.transport import AsyncReply, AsyncTransport
from cloche.sdk.code import Execution, Result
from cloche.sdk.code_events import CodeCollector, EventDecoder, TextDecoder
from cloche.sdk.values import MAX_OUTPUT_BYTES, StreamName
from cloche.sdk.wire import ConnectionLostError

#: how long a caller who is interrupted waits for the node to be told
INTERRUPT_SECONDS = 10.0
_BREAKS = (ConnectionLostError, TimedOutError, WrongStateError, NotFoundError)


class AsyncCodeStream:
    """The events of an execution, each once and in order, until CodeEnded. The code is sent with the first of them.

    A node that restarts is waited for, and so is a sandbox that is paused meanwhile. Raises SandboxDeadError when the
    sandbox was stopped or removed, InterpreterMissingError, NotFoundError (the context, or an execution that was
    forgotten), NodeUnreachableError. Leaving it before the end interrupts the code, unless that is to be kept."""

    def __init__(
        self, transport: AsyncTransport, sandbox: str, *, body: dict[str, Any] | None = None,
        execution_id: str | None = None, after: int = 0, follow: bool = True,
    ) -> None:  # fmt: skip
        self._reading = _Reading(transport, sandbox, body, execution_id, after, follow)
        # The generator knows nothing of this object: when nobody holds it any more, it is closed at once.
        self._events = self._reading.events()

    @property
    def execution_id(self) -> str | None:
        """What `Sandbox.execution` finds it by; None until the code was accepted."""
        return self._reading.execution_id

    @property
    def seq(self) -> int:
        """The number of the last event that was read; give it to `Sandbox.execution` to go on in another program."""
        return self._reading.seq

    def __aiter__(self) -> AsyncCodeStream:
        return self

    async def __anext__(self) -> CodeEvent:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Read no more."""
        await self._events.aclose()

    async def interrupt(self) -> None:
        """Interrupt the code, or take it out of the queue; the rest of its events can still be read. Nothing happens
        when it has ended."""
        await self._reading.interrupt()

    async def result(
        self, *, on_stdout: bridge.TextCallback | None = None, on_stderr: bridge.TextCallback | None = None,
        on_result: bridge.ResultCallback | None = None, max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> Execution:  # fmt: skip
        """Read what is left, and what it comes to. Raises WrongStateError when its end is not in what was left."""
        collector, listeners = CodeCollector(max_output_bytes), _Listeners(on_stdout, on_stderr, on_result)
        try:
            async for event in self:
                await listeners.tell(event, collector.take(event))
        finally:
            await self.aclose()
        if not collector.ended:
            raise WrongStateError("the execution still runs, or its end had been read before")
        return collector.execution()


class _Reading:
    """Where a reader stands, and how it goes on."""

    def __init__(
        self, transport: AsyncTransport, sandbox: str, body: dict[str, Any] | None, execution_id: str | None,
        after: int, follow: bool,
    ) -> None:  # fmt: skip
        self.execution_id, self.seq = execution_id, after
        self._transport, self._sandbox, self._body, self._follow = transport, sandbox, body, follow
        self._ended = False

    async def interrupt(self) -> None:
        if self.execution_id is not None and not self._ended:
            with contextlib.suppress(WrongStateError):
                path = f"{self._sandbox}/executions/{wire.segment(self.execution_id)}/interrupt"
                await self._transport.ask("POST", path, json={}, seconds=INTERRUPT_SECONDS)

    async def events(self) -> AsyncGenerator[CodeEvent, None]:
        try:
            async with contextlib.aclosing(self._followed()) as events:
                async for event in events:
                    yield event
        finally:
            if not self._ended and self._body is not None and self._body["on_disconnect"] == "interrupt":
                with contextlib.suppress(ClocheError):
                    await self.interrupt()

    async def _followed(self) -> AsyncGenerator[CodeEvent, None]:
        patience = AsyncPatience(self._transport, self._sandbox, self.execution_id or "the code", began=False)
        while True:
            try:
                async with contextlib.aclosing(self._attempt()) as events:
                    async for event in events:
                        patience.progress()
                        yield event
                # an answer that is complete: there is no more, or there will be no more
                return
            except _BREAKS as error:
                if self._ended:
                    return
                broken: ClocheError = error
            if self.execution_id is None:
                # it is not known whether the code runs, and it must not run twice
                raise broken
            await patience.before_next_try(broken)

    async def _attempt(self) -> AsyncGenerator[CodeEvent, None]:
        reply, decoder = await self._open(), EventDecoder()
        try:
            async for chunk in reply.chunks():
                for event in decoder.feed(chunk):
                    if self._is_fresh(event):
                        yield event
        finally:
            await reply.aclose()

    async def _open(self) -> AsyncReply:
        if self.execution_id is None:
            return await self._transport.open("POST", f"{self._sandbox}/executions", json=self._body)
        path = f"{self._sandbox}/executions/{wire.segment(self.execution_id)}"
        return await self._transport.open("GET", path, query={"after": self.seq, "follow": self._follow})

    def _is_fresh(self, event: CodeEvent) -> bool:
        """Not seen before. Takes note of it."""
        if isinstance(event, Keepalive) or event.seq <= self.seq:
            return False
        self.seq = event.seq
        if isinstance(event, Accepted):
            self.execution_id = event.execution_id
        self._ended = isinstance(event, CodeEnded)
        return True


class _Listeners:
    """Who is told of output and results while the code runs."""

    def __init__(
        self, stdout: bridge.TextCallback | None, stderr: bridge.TextCallback | None,
        result: bridge.ResultCallback | None,
    ) -> None:  # fmt: skip
        self._text: dict[StreamName, bridge.TextCallback | None] = {"stdout": stdout, "stderr": stderr}
        self._result = result
        self._decoder = TextDecoder()

    async def tell(self, event: CodeEvent, result: Result | None) -> None:
        if isinstance(event, CodeOutput):
            callback = self._text[event.stream]
            text = self._decoder.text(event) if callback else ""
            if callback and text:
                await bridge.call(callback, text)
        elif isinstance(event, CodeGap | CodeEnded):
            for stream, callback in self._text.items():
                text = self._decoder.rest(stream)
                if callback and text:
                    await bridge.call(callback, text)
        elif result is not None and self._result:
            await bridge.call(self._result, result)
