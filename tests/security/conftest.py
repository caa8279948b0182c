"""Who attacks: each mode of the engine that this machine and this user can have, and each user inside."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests import ordinary_user
from tests.integration.door_fixtures import authority, dns, door, got, guest, neighbours, other, server, swallower
from tests.integration.world_fixtures import home, telling, world
from tests.security import planting

__all__ = [
    "authority", "dns", "door", "got", "guest", "home", "neighbours", "other", "server", "swallower", "telling",
    "world",
]  # fmt: skip
HERE = Path(__file__).parent
#: mode of ids → user of the host that has it, None for the one who runs the suite
MODES = {"range": None, "helper": "cloche-test", "one": "cloche-test1"}
INSIDE = {"range": ("user", "root"), "helper": ("user", "root"), "one": ("user",)}
ATTACKERS = [f"{mode}-{user}" for mode, users in INSIDE.items() for user in users]
PATIENCE_SECONDS = 100


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.security)


def load_probes() -> Any:
    """The probes' own module, as they load it inside."""
    if str(HERE / "probes") not in sys.path:
        sys.path.insert(0, str(HERE / "probes"))
    importlib.import_module("run")
    return importlib.import_module("probing")


@functools.cache
def results(mode: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(user inside, probe) → its end. All probes of a mode run once, in one go."""
    lines = [json.loads(line) for line in run(mode).splitlines()]
    return {(line["user"], line["probe"]): line for line in lines}


def run(mode: str) -> str:
    mark = planting.new_mark()
    try:
        return _run(mode, mark)
    finally:
        planting.uproot(mark)


def _run(mode: str, mark: str) -> str:
    name = MODES[mode]
    if os.geteuid() != 0:
        return _as_me(mode, mark)
    if name is None:
        return _attack(mark)
    if mode == "helper" and not _has_newuidmap():
        pytest.skip("newuidmap is missing: python3 dev.py setup")
    with ordinary_user.made(name) as user:
        done = user.run([sys.executable, str(HERE / "attack.py"), str(user.home / "data"), mark, *INSIDE[mode]])
    assert done.returncode == 0, done.stderr
    return done.stdout


def _as_me(mode: str, mark: str) -> str:
    from cloche.engines.launched.facts import gather

    own = gather().id_mode
    if mode != own:
        pytest.skip(f"without root only this user's own mode can be had, {own}")
    return _attack(mark)


def _attack(mark: str) -> str:
    users = INSIDE["range" if os.geteuid() == 0 else "one"]
    with tempfile.TemporaryDirectory() as home:
        argv = [sys.executable, str(HERE / "attack.py"), f"{home}/data", mark, *users]
        # what it makes in between goes with its home, also when it is killed
        environment = os.environ | {
            "PYTHONPATH": f"{ordinary_user.ROOT / 'src'}{os.pathsep}{ordinary_user.ROOT}",
            "TMPDIR": home,
        }
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _has_newuidmap() -> bool:
    import shutil

    return shutil.which("newuidmap") is not None
