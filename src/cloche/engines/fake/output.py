"""What a process writes, kept by byte offset in a ring, for any number of readers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cloche.guest_api.frames import MAX_PAYLOAD_BYTES, STDERR, STDOUT, Frame, StreamKind, encode, encode_gap
from cloche.model.errors import InvalidError

RING_BYTES = 8 << 20
KEEPALIVE_SECONDS = 15.0


class Ring:
    def __init__(self, size: int = RING_BYTES) -> None:
        self._size = size
        self._data = bytearray()
        self.begin = 0

    @property
    def end(self) -> int:
        return self.begin + len(self._data)

    def append(self, data: bytes) -> None:
        self._data += data
        excess = len(self._data) - self._size
        if excess > 0:
            del self._data[:excess]
            self.begin += excess

    def kept(self) -> tuple[int, bytes]:
        """Where it begins, and everything in it."""
        return self.begin, bytes(self._data)

    def fill(self, begin: int, data: bytes) -> None:
        self.begin, self._data = begin, bytearray(data)

    def at(self, offset: int) -> bytes:
        start = offset - self.begin
        return bytes(self._data[start : start + MAX_PAYLOAD_BYTES])


class Cursor:
    """One reader's place in both streams."""

    def __init__(self, offsets: dict[StreamKind, int]) -> None:
        self.offsets = offsets


class Output:
    def __init__(self, ring_bytes: int = RING_BYTES) -> None:
        self._ring_bytes = ring_bytes
        self.rings: dict[StreamKind, Ring] = {STDOUT: Ring(ring_bytes), STDERR: Ring(ring_bytes)}
        self._followers: list[Cursor] = []
        self._changed = asyncio.Event()

    @property
    def total(self) -> int:
        return sum(ring.end for ring in self.rings.values())

    async def write(self, stream: StreamKind, data: bytes) -> None:
        """Waits while the slowest follower is a whole ring behind, as a pipe would."""
        while any(self.rings[stream].end - reader.offsets[stream] >= self._ring_bytes for reader in self._followers):
            await self._changed.wait()
        self.rings[stream].append(data)
        self.notify()

    def fill(self, kept: dict[StreamKind, tuple[int, bytes]]) -> None:
        """Begin with what another had kept."""
        for stream, (begin, data) in kept.items():
            self.rings[stream].fill(begin, data)

    def notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> bool:
        """False after a silence of KEEPALIVE_SECONDS."""
        try:
            async with asyncio.timeout(KEEPALIVE_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def cursor(self, stdout_offset: int, stderr_offset: int) -> Cursor:
        asked: dict[StreamKind, int] = {STDOUT: stdout_offset, STDERR: stderr_offset}
        return Cursor({stream: self._start(self.rings[stream], offset) for stream, offset in asked.items()})

    @contextmanager
    def following(self, cursor: Cursor) -> Iterator[None]:
        self._followers.append(cursor)
        try:
            yield
        finally:
            self._followers.remove(cursor)
            self.notify()

    def take(self, cursor: Cursor) -> list[bytes]:
        """Encoded frames of what is new to `cursor`, which moves on."""
        frames: list[bytes] = []
        for stream, ring in self.rings.items():
            frames += self._take_one(stream, ring, cursor)
        if frames:
            self.notify()
        return frames

    def _take_one(self, stream: StreamKind, ring: Ring, cursor: Cursor) -> list[bytes]:
        frames, offset = [], cursor.offsets[stream]
        if offset < ring.begin:
            frames.append(encode_gap(stream, ring.begin, ring.begin - offset))
            offset = ring.begin
        if data := ring.at(offset):
            frames.append(encode(Frame(stream, offset, data)))
        cursor.offsets[stream] = offset + len(data)
        return frames

    def _start(self, ring: Ring, offset: int) -> int:
        if offset > ring.end:
            raise InvalidError(f"offset {offset} is beyond the {ring.end} bytes there are", field="offset")
        return max(0, ring.end + offset) if offset < 0 else offset
