"""Decompression with a bound, of everything that packages, kernels and modules are compressed with.

lz4 and zstd come from libraries, which are imported only here."""

from __future__ import annotations

import bz2
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from cloche.engines.vm.damaged import DamagedError

PIECE_BYTES = 1 << 20
#: xz -9 needs 65 MiB to decompress; a file that asks for much more wants to fill the memory
MEMORY_BYTES = 256 << 20
#: zstd: a window of 128 MiB, what `zstd --ultra` makes without --long
ZSTD_WINDOW_LOG = 27
#: the legacy frame of lz4 has blocks of 8 MiB, which grow a little when they cannot be made smaller
LZ4_BLOCK_BYTES = 8 << 20
LZ4_LARGEST = LZ4_BLOCK_BYTES + LZ4_BLOCK_BYTES // 255 + 16


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Decompressor(Protocol):
    """As of `lzma` and `bz2`: after `decompress` either `eof`, or more to come without input, or `needs_input`."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Inflated:
    """The content of a compressed file, as a file: at most `limit` bytes of it, or DamagedError."""

    def __init__(self, source: Readable, limit: int) -> None:
        self._source = source
        self._left = limit
        head = _fill(source, b"")
        self._magic, self._make = _format(head)
        self._decompressor: _Decompressor | None = self._make()
        self._input = head

    def read(self, size: int = -1, /) -> bytes:
        """Fewer than `size` bytes only at the end."""
        found = bytearray()
        while size < 0 or len(found) < size:
            piece = self._piece(PIECE_BYTES if size < 0 else min(PIECE_BYTES, size - len(found)))
            if not piece:
                break
            found += piece
        return bytes(found)

    def _piece(self, size: int) -> bytes:
        while (decompressor := self._decompressor) is not None:
            piece = self._step(decompressor, size)
            self._left -= len(piece)
            if self._left < 0:
                raise DamagedError("it is larger than it may be when it is unpacked")
            if decompressor.eof:
                self._next_stream(decompressor.unused_data)
            if piece:
                return piece
        return b""

    def _step(self, decompressor: _Decompressor, size: int) -> bytes:
        if not self._input and decompressor.needs_input:
            self._input = self._source.read(PIECE_BYTES)
            if not self._input:
                self._end(decompressor)
                return b""
        data, self._input = self._input, b""
        try:
            return decompressor.decompress(data, size)
        except Exception as error:
            # five libraries, each with errors of its own
            raise DamagedError(f"it cannot be unpacked: {error}") from error

    def _end(self, decompressor: _Decompressor) -> None:
        if not getattr(decompressor, "may_end", False):
            raise DamagedError("it is cut off")
        self._decompressor = None

    def _next_stream(self, rest: bytes) -> None:
        """What follows a whole stream is another one, or nothing that belongs to it."""
        rest = _fill(self._source, rest)
        again = rest.startswith(self._magic)
        self._decompressor, self._input = (self._make(), rest) if again else (None, b"")


def inflate(data: bytes, limit: int) -> bytes:
    """Raises DamagedError: it is no compressed file, a damaged one, or larger than `limit`."""
    return Inflated(io.BytesIO(data), limit).read()


def pieces(source: Readable, limit: int) -> Iterator[bytes]:
    inflated = Inflated(source, limit)
    while piece := inflated.read(PIECE_BYTES):
        yield piece


def is_compressed(head: bytes) -> bool:
    return any(head.startswith(magic) for magic in _FORMATS)


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.eof and not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))


class _Lz4Legacy:
    """`lz4 -l`, which is how the kernel uses lz4: a magic number, then blocks with their length before them. There is
    no end mark; the kernel's build puts four bytes behind it."""

    def __init__(self) -> None:
        self._buffer = b""
        self._begun = False
        self._ready = b""
        self.eof = False
        self.unused_data = b""

    @property
    def needs_input(self) -> bool:
        return not self._ready and self._whole_block() is None

    @property
    def may_end(self) -> bool:
        return self._begun and len(self._buffer) in (0, 4)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        self._buffer += data
        if not self._begun and len(self._buffer) >= 4:
            self._begun, self._buffer = True, self._buffer[4:]
        if not self._ready:
            self._ready = self._block()
        size = len(self._ready) if max_length < 0 else max_length
        piece, self._ready = self._ready[:size], self._ready[size:]
        return piece

    def _whole_block(self) -> int | None:
        """How long the next block is, when it is there."""
        if not self._begun or len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "little")
        return length if len(self._buffer) >= 4 + length or length > LZ4_LARGEST else None

    def _block(self) -> bytes:
        length = self._whole_block()
        if length is None:
            return b""
        if length > LZ4_LARGEST:
            self.eof = True
            return b""
        import lz4.block

        block, self._buffer = self._buffer[4 : 4 + length], self._buffer[4 + length :]
        return bytes(lz4.block.decompress(block, uncompressed_size=LZ4_BLOCK_BYTES))


def _zstd() -> _Decompressor:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    found: _Decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})
    return found


_FORMATS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\x1f\x8b": _Gzip,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_BYTES),
    b"\x5d\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MEMORY_BYTES),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x02\x21\x4c\x18": _Lz4Legacy,
    b"BZh": bz2.BZ2Decompressor,
}
_LONGEST_MAGIC = max(map(len, _FORMATS))


def _format(head: bytes) -> tuple[bytes, Callable[[], _Decompressor]]:
    for magic, make in _FORMATS.items():
        if head.startswith(magic):
            return magic, make
    raise DamagedError("it is compressed in no way that is known")


def _fill(source: Readable, head: bytes) -> bytes:
    """At least as much as tells the format, unless there is no more."""
    while len(head) < _LONGEST_MAGIC:
        more = source.read(_LONGEST_MAGIC - len(head))
        if not more:
            break
        head += more
    return head
