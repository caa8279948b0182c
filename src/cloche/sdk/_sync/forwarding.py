"""A place on this machine whose connections end in a sandbox. The twin is `_async/forwarding.py`, by hand.

Connections are carried by that twin, on an event loop in a thread of its own: two threads for each connection would
cost more, and nobody waits for them anyway."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

from cloche.model.errors import ClocheError
from cloche.sdk._sync.transport import Transport
from cloche.sdk.listening import LocalPlace
from cloche.sdk.wire import Query

PROTOCOL = "cloche-stream"


class Forward:
    """`address`: "127.0.0.1:8000", or the path of a unix socket. `on_failure` is called with the reason of each
    connection that could not be made, in another thread; its client sees a reset."""

    def __init__(self, transport: Transport, path: str, query: Query, place: LocalPlace) -> None:
        """`path`, `query`: of the node's route that dials. The place is closed with it."""
        self.address = place.address
        self.port = place.port
        self.on_failure: Callable[[ClocheError], None] = lambda error: None
        self._home, self._path, self._query = transport.home, path, query
        self._place = place
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="cloche-forward", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end every connection; safe to call twice."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def __enter__(self) -> Forward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._forward())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    async def _forward(self) -> None:
        from cloche.sdk._async.forwarding import AsyncForward
        from cloche.sdk._async.transport import AsyncTransport

        transport = AsyncTransport(self._home)
        async with AsyncForward(transport, self._path, self._query, self._place) as forward:
            forward.on_failure = self._tell
            await self._ending.wait()
        await transport.aclose()

    def _tell(self, error: ClocheError) -> None:
        self.on_failure(error)
