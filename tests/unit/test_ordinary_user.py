"""Users that the suite makes are gone afterwards, with all that is theirs, also when a test fails."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest

from tests import ordinary_user

NAME = "cloche-test"
ACCOUNT = NAME + ordinary_user.WORKER

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users"),
]


def test_nothing_is_left_after_a_failure() -> None:
    pids: list[int] = []
    with pytest.raises(ZeroDivisionError), ordinary_user.made(NAME) as user:
        start = "subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=-3, stderr=-3).pid"
        code = f"import subprocess; print({start})"
        pids.append(int(ordinary_user.as_user(user, [sys.executable, "-c", code]).stdout.split()[0]))
        assert ordinary_user.owner(pids[0]) == user.uid
        home = user.home
        assert home.is_dir()
        raise ZeroDivisionError
    assert ordinary_user.owner(pids[0]) is None
    assert not home.exists()
    for path in ("/etc/passwd", "/etc/subuid", "/etc/subgid"):
        assert f"{ACCOUNT}:" not in Path(path).read_text()
    with pytest.raises(KeyError):
        pwd.getpwnam(ACCOUNT)


def test_closed_directories_are_found(tmp_path: Path) -> None:
    closed = tmp_path / "open" / "closed" / "inner"
    closed.mkdir(parents=True)
    for parent in [tmp_path, *[each for each in tmp_path.parents if str(each).startswith("/tmp/")]]:
        parent.chmod(parent.stat().st_mode | 0o001)
    (tmp_path / "open").chmod(0o755)
    (tmp_path / "open/closed").chmod(0o700)
    assert ordinary_user.closed_ancestor(str(closed)) == str(tmp_path / "open/closed")
    assert ordinary_user.closed_ancestor("/usr/bin") is None
