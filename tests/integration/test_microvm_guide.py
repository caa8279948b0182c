"""The blocks of the guide to virtual machines, on real ones with a small root instead of a copy of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.node_harness import end_node, environment
from tests.test_docs import ROOT, blocks_of, commands_of, matches

PAGE = ROOT / "docs" / "guides" / "microvm.md"
BLOCKS = [block for block in blocks_of(PAGE) if block.exempt and "by a test of its own" in block.exempt]


@pytest.fixture
def home(vm_place, tmp_path):
    place = vm_place.home(tmp_path / "home")
    yield place
    # also what a block that failed has left
    variables = environment(CLOCHE_HOME=str(place))
    subprocess.run([sys.executable, "-m", "cloche.cli", "rm", "-f", "--all"], env=variables, timeout=60, check=False)
    end_node(place)


def test_every_block_is_run_but_those_that_fetch_or_remove_what_all_share():
    assert len(BLOCKS) == len(blocks_of(PAGE)) - 2 == 4


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_the_page_shows_is_what_happens(home, vm_place, tmp_path):
    directory = tmp_path / "bin"
    directory.mkdir()
    cloche = directory / "cloche"
    cloche.write_text(f'#!/bin/sh\nexec {sys.executable} -m cloche.cli "$@"\n')
    cloche.chmod(0o755)
    variables = environment(CLOCHE_HOME=str(home), NO_COLOR="1")
    variables["PATH"] = f"{directory}:{variables['PATH']}"
    for block in BLOCKS:
        run_block(block, str(vm_place.directory), variables, tmp_path)


def run_block(block, root: str, variables: dict[str, str], work: Path) -> None:
    body = block.body.replace(" --engine vm", f" --engine vm --image {root}")
    body = body.replace('engine="vm"', f'engine="vm", image="{root}"')
    if block.language == "python":
        run([sys.executable, "-c", body], variables, work)
        return
    for command, expected in commands_of(body):
        said = run(["bash", "-c", command], variables, work)
        assert matches(expected, said), f"{block}: {command}\nexpected:\n{expected}\ngot:\n{said}"


def run(argv: list[str], variables: dict[str, str], work: Path) -> str:
    done = subprocess.run(argv, cwd=work, env=variables, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{argv[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout
