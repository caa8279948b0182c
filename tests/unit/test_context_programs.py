"""The programs that the guest sends into interpreters: whole, in small parts, and for every Python from 3.8 on."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[2] / "guest/internal/contexts"
PARTS = GUEST / "programs/python"
OLDEST = (3, 8)
#: what Python has taken out since 3.8, or says that it will
GONE = {"distutils", "imp", "asynchat", "asyncore", "pipes", "cgi", "pkg_resources", "get_event_loop", "utcnow"}


def order() -> list[str]:
    """The parts in the order in which the guest joins them."""
    (listed,) = re.findall(r"var pythonParts = \[\]string\{(.*)\}", (GUEST / "programs.go").read_text())
    return re.findall(r'"(\w+)"', listed)


def whole() -> str:
    return "".join((PARTS / f"{name}.py").read_text() for name in order())


def test_the_guest_joins_every_part() -> None:
    assert sorted(order()) == sorted(path.stem for path in PARTS.glob("*.py"))


@pytest.mark.parametrize("name", order())
def test_a_part_is_small_says_what_it_is_for_and_is_of_the_oldest_python(name: str) -> None:
    text = (PARTS / f"{name}.py").read_text()
    tree = ast.parse(text, feature_version=OLDEST)
    assert ast.get_docstring(tree)
    assert text.endswith("\n") and text.count("\n") <= 250


def test_nothing_is_used_that_newer_pythons_lack() -> None:
    tree = ast.parse(whole(), feature_version=OLDEST)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {
        alias.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names
    }
    assert not names & GONE


def test_every_name_of_a_part_is_defined_in_one() -> None:
    tree = ast.parse(whole())
    made = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    made |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    made |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name}
    made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            made |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert used <= made | set(dir(builtins))


def test_no_top_level_name_is_made_and_never_used() -> None:
    tree = ast.parse(whole())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    made = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            made |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    assert made <= used


def test_the_program_fits_into_the_pipe_at_once() -> None:
    assert len(whole().encode()) < 64 << 10


def test_compiling_it_warns_of_nothing() -> None:
    argv = [sys.executable, "-W", "error", "-c", "import sys; compile(sys.stdin.read(), '<cloche>', 'exec')"]
    assert subprocess.run(argv, input=whole(), text=True, capture_output=True, timeout=60).stderr == ""
