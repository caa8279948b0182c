"""The suite makes sandboxes of image `host`; machines get a small one for it, and share their templates."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def small_machines(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if "engine_name" in request.fixturenames and request.getfixturevalue("engine_name") == "vm":
        request.getfixturevalue("small_host").home(tmp_path)
