"""The blocking half is what the generator makes of the async half, and importing the package costs nothing."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import cloche

ROOT = Path(__file__).parents[3]


def test_the_blocking_half_is_up_to_date() -> None:
    generated = runpy.run_path(str(ROOT / "scripts/generate_sync.py"))["generated"]()
    stale = [path.name for path, text in generated.items() if not path.exists() or path.read_text() != text]
    assert not stale, "run: python scripts/generate_sync.py"


def test_public_names_are_there() -> None:
    for name in cloche.__all__:
        assert getattr(cloche, name) is not None


def test_importing_the_package_imports_nothing_of_it() -> None:
    program = (
        "import sys; sys.modules.pop('typing', None); import cloche\n"
        "print([name for name in sys.modules if name == 'typing' or name.startswith('cloche.')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_blocking_half_is_not_made_of_the_other() -> None:
    program = "import sys; from cloche import Sandbox; print([name for name in sys.modules if '.sdk._async' in name])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
