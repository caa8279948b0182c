"""Decompression with a bound."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma

import lz4.block
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.engines.vm import decompress
from cloche.engines.vm.damaged import DamagedError


def legacy(data: bytes) -> bytes:
    """As `lz4 -l` writes it."""
    out = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), decompress.LZ4_BLOCK_BYTES):
        block = lz4.block.compress(data[at : at + decompress.LZ4_BLOCK_BYTES], store_size=False)
        out += len(block).to_bytes(4, "little") + block
    return out


def alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


PACKERS = {"gzip": gzip.compress, "xz": lzma.compress, "lzma": alone, "zstd": zstd.compress, "bzip2": bz2.compress,
           "lz4": legacy}  # fmt: skip
every = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


@every
@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000, bytes(9 << 20)], ids=["0", "1", "1M", "9M"])
def test_what_was_packed_comes_back(pack, data) -> None:
    assert decompress.inflate(pack(data), len(data)) == data


@every
@settings(deadline=None)
@given(data=st.binary(max_size=3000), pieces=st.integers(1, 700), asked=st.integers(1, 700))
def test_sizes_of_pieces_do_not_matter(pack, data, pieces, asked) -> None:
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(pieces if size < 0 else min(size, pieces))

    inflated = decompress.Inflated(Slow(pack(data)), 3000)
    found = b""
    while piece := inflated.read(asked):
        assert len(piece) <= asked
        found += piece
    assert found == data


@every
def test_a_bomb_ends_at_the_limit(pack) -> None:
    packed = pack(bytes(4 << 20))
    with pytest.raises(DamagedError, match="larger"):
        decompress.inflate(packed, 1 << 20)


@every
def test_what_is_cut_off_is_refused(pack) -> None:
    packed = pack(bytes(range(256)) * 1000)
    for length in (len(packed) // 2, len(packed) - (1 if pack is not legacy else 9)):
        with pytest.raises(DamagedError):
            decompress.inflate(packed[:length], 1 << 20)


@every
@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=200), noise=st.binary(max_size=300))
def test_noise_behind_the_magic_is_refused_or_bounded(pack, data, noise) -> None:
    packed = pack(data)
    try:
        assert len(decompress.inflate(packed[:6] + noise, 1000)) <= 1000
    except DamagedError:
        pass


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd", "bzip2"])
def test_several_streams_are_one_file(name) -> None:
    pack = PACKERS[name]
    assert decompress.inflate(pack(b"one ") + pack(b"two"), 100) == b"one two"


def test_what_follows_a_payload_is_not_read() -> None:
    for pack in (gzip.compress, lzma.compress, zstd.compress):
        assert decompress.inflate(pack(b"kernel") + (6).to_bytes(4, "little"), 100) == b"kernel"
    # the kernel's build puts the size of what was packed behind it, small or larger than a block
    assert decompress.inflate(legacy(b"kernel") + (6).to_bytes(4, "little"), 100) == b"kernel"
    big = bytes(20 << 20)
    assert decompress.inflate(legacy(big) + len(big).to_bytes(4, "little"), len(big)) == big


def test_what_is_not_compressed_is_refused() -> None:
    for data in (b"", b"\x1f", b"MZ plain"):
        with pytest.raises(DamagedError, match="no way"):
            decompress.inflate(data, 100)
