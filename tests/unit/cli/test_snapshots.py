"""What `--snapshot` and `cloche fork --name` make of their flags, and snapshots in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.cli import snapshot_files
from cloche.cli.commands import fork
from cloche.model.errors import InvalidError, NotFoundError, PermissionDeniedError
from tests.unit.cli.test_templates import flags, sent


def test_with_a_snapshot_only_what_was_given_is_said() -> None:
    nothing = dict.fromkeys(("memory_mib", "cpus", "pids", "disk_mib", "open_files"))
    assert sent("--snapshot", "s") == {"snapshot": "s", "limits": nothing}
    assert sent("--snapshot", "s", "--memory", "64m", "-e", "A=1")["limits"]["memory_mib"] == 64
    assert "snapshot" not in flags()


@pytest.mark.parametrize(
    ("names", "count", "expected"),
    [((), 3, []), (("x",), 1, ["x"]), (("x",), 3, ["x-1", "x-2", "x-3"]), (("x", "y"), 2, ["x", "y"])],
)
def test_one_name_for_several_forks_is_numbered(names: tuple[str, ...], count: int, expected: list[str]) -> None:
    assert list(fork._each(names, count)) == expected


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "s.tar"
    snapshot_files.write(iter([b"one", b"two"]), str(target))
    assert target.read_bytes() == b"onetwo" and target.stat().st_mode & 0o777 == 0o600
    with snapshot_files.read(str(target)) as pieces:
        assert b"".join(pieces) == b"onetwo"


def test_a_stream_that_breaks_leaves_no_file_and_the_old_one(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise NotFoundError("gone")

    target = tmp_path / "s.tar"
    target.write_bytes(b"old")
    with pytest.raises(NotFoundError):
        snapshot_files.write(broken(), str(target))
    assert [path.name for path in tmp_path.iterdir()] == ["s.tar"] and target.read_bytes() == b"old"


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file"), snapshot_files.read(str(tmp_path / "x")):
        pass
    with pytest.raises(PermissionDeniedError, match="No such file"):
        snapshot_files.write(iter([b""]), str(tmp_path / "no" / "x"))


def test_a_terminal_is_no_place_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.isatty", lambda descriptor: True)
    with pytest.raises(InvalidError):
        snapshot_files.write(iter([b"x"]), "-")
    with pytest.raises(InvalidError), snapshot_files.read("-"):
        pass
