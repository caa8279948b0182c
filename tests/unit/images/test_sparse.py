"""Where the data of sparse files is, and what they hash to: the plainest reader of the definition must agree."""

import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.images import sparse
from tests.unit.images.sparse_making import a_file

MIB = 1 << 20


def test_a_checksum_stays_what_manifests_on_disks_say(tmp_path: Path) -> None:
    found = sparse.described(a_file(tmp_path / "disk", 3 * MIB + 5, {MIB + 70_000: b"content", 3 * MIB + 2: b"end"}))
    assert found.sha256 == "42b82886431277648eb3089286496198f9330d900c9e52893d387c4098496492"


def test_zeros_and_holes_are_the_same(tmp_path: Path) -> None:
    holes = a_file(tmp_path / "holes", 4 * MIB, {MIB: b"content"})
    zeros = tmp_path / "zeros"
    zeros.write_bytes(holes.read_bytes())
    assert sparse.described(holes).sha256 == sparse.described(zeros).sha256


@settings(deadline=None, max_examples=40)
@given(place=st.integers(0, 2 * MIB - 1), bit=st.integers(0, 7))
def test_every_bit_counts(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    directory = tmp_path_factory.mktemp("sum")
    before = sparse.described(a_file(directory / "a", 2 * MIB, {0: b"x", MIB: b"y"}))
    changed = bytearray((directory / "a").read_bytes())
    changed[place] ^= 1 << bit
    (directory / "a").write_bytes(changed)
    assert sparse.described(directory / "a") != before


def test_the_size_counts_and_so_does_the_place(tmp_path: Path) -> None:
    sums = [
        sparse.described(a_file(tmp_path / str(number), size, {offset: b"x"}))
        for number, (size, offset) in enumerate([(MIB, 0), (2 * MIB, 0), (2 * MIB, MIB)])
    ]
    assert len({(each.size_bytes, each.sha256) for each in sums}) == 3


@pytest.mark.parametrize("seed", range(8))
def test_sparse_files_are_described_and_written_as_they_are(tmp_path, seed):
    chosen = random.Random(seed)
    content = bytearray(chosen.randrange(3 * MIB))
    for _ in range(chosen.randrange(6)):
        at = chosen.randrange(len(content) + 1)
        content[at : at + chosen.randrange(200_000)] = chosen.randbytes(chosen.randrange(200_000))
    path = tmp_path / "f"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(descriptor, len(content))
        for at in range(0, len(content), 70_000):
            sparse.write(descriptor, at, bytes(content[at : at + 70_000]))
        found = sparse.extents(descriptor, len(content))
    finally:
        os.close(descriptor)
    assert path.read_bytes() == bytes(content)
    covered = bytearray(len(content))
    for begin, length in found:
        covered[begin : begin + length] = content[begin : begin + length]
    assert covered == content
    assert sparse.described(path).sha256 == digest_of(content)


def digest_of(content):
    """The definition, in the plainest way."""
    whole = hashlib.sha256()
    for at in range(0, len(content), 65536):
        if any(content[at : at + 65536]):
            whole.update(at.to_bytes(8, "big") + content[at : at + 65536])
    return whole.hexdigest()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.binary(min_size=1, max_size=400))), st.integers(0, 9))
def test_a_checksum_is_the_same_in_any_pieces(parts, more):
    content, digest, end = bytearray(310_000), sparse.Digest(), 0
    for at, data in sorted(parts):
        if at >= end:
            content[at : at + len(data)] = data
            digest.data(at, data)
            end = at + len(data)
    del content[end + more :]
    assert digest.value(len(content)) == digest_of(content)
