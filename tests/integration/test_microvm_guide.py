"""The blocks of the guide to virtual machines, on real ones with a small root instead of a copy of this machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.guide_blocks import run_blocks
from tests.integration.node_harness import end_node, environment
from tests.test_docs import ROOT, blocks_of

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
    root = vm_place.directory
    replaced = {" --engine vm": f" --engine vm --image {root}", 'engine="vm"': f'engine="vm", image="{root}"'}
    run_blocks(BLOCKS, home, tmp_path, replaced)
