"""Runs the blocks of a guide that need another engine, or another image, than the page itself says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.node_harness import environment
from tests.test_docs import commands_of, matches


def run_blocks(blocks, home: Path, work: Path, replaced: dict[str, str], **settings: str) -> None:
    """In order, in one data directory, with a `cloche` of this checkout. `replaced`: what the page says, and what is
    run in its place. `settings`: environment of all of it."""
    directory = work / "bin"
    directory.mkdir()
    cloche = directory / "cloche"
    cloche.write_text(f'#!/bin/sh\nexec {sys.executable} -m cloche.cli "$@"\n')
    cloche.chmod(0o755)
    variables = environment(CLOCHE_HOME=str(home), NO_COLOR="1", **settings)
    variables["PATH"] = f"{directory}:{variables['PATH']}"
    for block in blocks:
        _run_block(block, variables, work, replaced)


def _run_block(block, variables: dict[str, str], work: Path, replaced: dict[str, str]) -> None:
    body = block.body
    for said, meant in replaced.items():
        body = body.replace(said, meant)
    if block.language == "python":
        _run([sys.executable, "-c", body], variables, work)
        return
    for command, expected in commands_of(body):
        said = _run(["bash", "-c", command], variables, work)
        assert matches(expected, said), f"{block}: {command}\nexpected:\n{expected}\ngot:\n{said}"


def _run(argv: list[str], variables: dict[str, str], work: Path) -> str:
    done = subprocess.run(argv, cwd=work, env=variables, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{argv[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout
