"""The blocks of the guide to snapshots and forks, on an engine that is there on every machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.node_harness import end_node, environment
from tests.test_docs import ROOT, blocks_of, commands_of, matches

PAGE = ROOT / "docs" / "guides" / "snapshots-and-forks.md"
BLOCKS = [block for block in blocks_of(PAGE) if block.exempt and "another engine" in block.exempt]


@pytest.fixture
def home(tmp_path):
    yield tmp_path / "home"
    end_node(tmp_path / "home")


def test_every_block_is_run_but_the_one_that_needs_an_interpreter():
    assert len(BLOCKS) == len(blocks_of(PAGE)) - 1 == 6


@pytest.mark.slow
def test_what_the_page_shows_is_what_happens(home, tmp_path):
    directory = tmp_path / "bin"
    directory.mkdir()
    cloche = directory / "cloche"
    cloche.write_text(f'#!/bin/sh\nexec {sys.executable} -m cloche.cli "$@"\n')
    cloche.chmod(0o755)
    variables = environment(CLOCHE_HOME=str(home), NO_COLOR="1")
    variables["PATH"] = f"{directory}:{variables['PATH']}"
    for block in BLOCKS:
        run_block(block, variables, tmp_path)


def run_block(block, variables: dict[str, str], work: Path) -> None:
    body = block.body.replace(" --engine vm", "").replace('engine="vm"', 'engine="fake"')
    if block.language == "python":
        run([sys.executable, "-c", body], variables, work)
        return
    for command, expected in commands_of(body):
        said = run(["bash", "-c", command], variables, work)
        assert matches(expected, said), f"{block}: {command}\nexpected:\n{expected}\ngot:\n{said}"


def run(argv: list[str], variables: dict[str, str], work: Path) -> str:
    done = subprocess.run(argv, cwd=work, env=variables, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{argv[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout
