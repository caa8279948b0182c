# Made from ../_async/tunnel.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""A connection to something that listens in a sandbox."""

from __future__ import annotations

from types import TracebackType

from cloche.sdk._sync import bridge
from cloche.sdk._sync.stream import Stream


class Tunnel:
    """Raw bytes both ways. Reading and writing may go on at the same time. Close it, or use it in a `with`."""

    def __init__(self, stream: Stream, leading: bytes = b"") -> None:
        self._stream = stream
        self._leading = leading

    def read(self, max_bytes: int = 65536) -> bytes:
        """What comes next, at most so many bytes; b"" when the other end has finished. Raises ConnectionError."""
        if not self._leading:
            self._leading = self._stream.receive(None)
        data, self._leading = self._leading[:max_bytes], self._leading[max_bytes:]
        return data

    def write(self, data: bytes) -> None:
        """Blocks while the other end does not read. Raises ConnectionError when it is gone."""
        self._stream.send(data)

    def write_eof(self) -> None:
        """Nothing more comes from here; what the other end sends can still be read. Raises OSError."""
        self._stream.finish()

    def close(self) -> None:
        """End it in both directions, also for who reads from it now; safe to call twice."""
        self._stream.give_up()
        # whoever waits on it wakes up while the descriptor is still there
        bridge.sleep(0)
        bridge.sleep(0)
        self._stream.close()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
