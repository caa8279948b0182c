"""A node's hold on its directory: who may have it, one at a time, and a socket of its own."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from cloche.model.errors import AlreadyExistsError, PermissionDeniedError
from cloche.noderun.home import Home
from cloche.sdk import launch


def test_a_directory_is_made_private(tmp_path: Path) -> None:
    with Home(str(tmp_path / "a" / "b")):
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_what_others_could_read_is_tightened(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    with Home(str(home)):
        assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_what_others_could_write_is_refused(tmp_path: Path, mode: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    with pytest.raises(PermissionDeniedError) as refused:
        Home(str(home))
    assert "chmod 700" in (refused.value.remedy or "")


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(PermissionDeniedError) as refused:
        Home(str(tmp_path))
    assert "4242" in refused.value.message


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(Exception, match="home"):
        Home(str(tmp_path / "home"))


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with Home(str(tmp_path)) as first, Home(str(tmp_path)) as second:
        first.lock()
        with pytest.raises(AlreadyExistsError) as refused:
            second.lock(patience_seconds=0)
        assert str(os.getpid()) in refused.value.message
        first.close()
        second.lock(patience_seconds=0)


def test_a_stale_lock_file_is_fine(tmp_path: Path) -> None:
    for left in ('{"pid": 1}', "rubbish " * 100, ""):
        (tmp_path / "node.lock").write_text(left)
        with Home(str(tmp_path)) as home:
            home.lock(patience_seconds=0)
            assert json.loads((tmp_path / "node.lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("left", ["socket", "file", "symlink"])
def test_a_stale_socket_is_replaced(tmp_path: Path, left: str) -> None:
    path = tmp_path / "node.sock"
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    if left == "socket":
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
    elif left == "file":
        path.write_text("")
    else:
        path.symlink_to(victim)
    with Home(str(tmp_path)) as home, home.listen():
        assert stat.S_ISSOCK(path.lstat().st_mode)
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert launch.listens(tmp_path)
        home.remove_socket()
    assert not path.exists()
    assert victim.read_text() == "untouched"


def test_only_its_own_socket_is_removed(tmp_path: Path) -> None:
    with Home(str(tmp_path)) as home, home.listen():
        (tmp_path / "node.sock").unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "node.sock"))
            home.remove_socket()
            assert (tmp_path / "node.sock").exists()


def test_a_long_path_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    with Home(str(deep)) as home, home.listen() as listening:
        assert launch.listens(deep)
        short = launch.socket_path(deep)
        assert len(str(short)) < 108
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(short))
            listening.accept()[0].close()


def test_the_identity_stays(tmp_path: Path) -> None:
    with Home(str(tmp_path)) as home:
        first = home.identity()
        assert home.identity() == first
    with Home(str(tmp_path)) as home:
        assert home.identity() == first
