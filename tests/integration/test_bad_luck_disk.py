"""CLOCHE_HOME on a disk that is really full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.node_harness import SOURCE

MOUNTED = 'mount -t tmpfs -o size=8m,mode=0700 cloche-test "$CLOCHE_HOME" && exec "$@"'


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_refuses_what_needs_room_and_nothing_else(real_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "small"
    home.mkdir(mode=0o700)
    env = {**os.environ, "CLOCHE_HOME": str(home), "PYTHONPATH": f"{SOURCE}{os.pathsep}{SOURCE.parent}"}
    program = [sys.executable, "-m", "tests.integration.full_disk"]
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTED, "sh", *program]
    run = subprocess.run(command, env=env, cwd=SOURCE.parent, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "all"
