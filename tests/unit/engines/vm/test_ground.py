"""Which root filesystem a machine gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.engines.vm.ground import kept_root

KEY = "5d" * 32


def test_what_was_captured_goes_on_with_its_own_root(tmp_path: Path) -> None:
    place = tmp_path / "images" / "erofs" / f"{KEY}.erofs"
    place.parent.mkdir(parents=True)
    assert kept_root(tmp_path, KEY) is None
    place.write_bytes(b"root")
    found = kept_root(tmp_path, KEY)
    assert found is not None
    assert (found.path, found.key, found.bytes) == (place, KEY, 4)


@pytest.mark.parametrize("key", [None, "", "../../secret", "5D" * 32, f"{KEY}\n", "5d" * 31])
def test_a_key_that_is_none_names_no_file(tmp_path: Path, key: str | None) -> None:
    place = tmp_path / "images" / "erofs" / f"{key}.erofs"
    (tmp_path / "images" / "erofs").mkdir(parents=True)
    place.resolve().write_bytes(b"not a root")
    assert kept_root(tmp_path, key) is None
