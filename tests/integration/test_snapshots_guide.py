"""The blocks of the guide to snapshots and forks, on an engine that is there on every machine."""

from __future__ import annotations

import pytest

from tests.integration.guide_blocks import run_blocks
from tests.integration.node_harness import end_node
from tests.test_docs import ROOT, blocks_of

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
    run_blocks(BLOCKS, home, tmp_path, {" --engine vm": "", 'engine="vm"': 'engine="fake"'})
