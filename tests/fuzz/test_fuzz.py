"""Runs each `fuzz_*.py` of this directory for a few thousand inputs. Run one by hand for longer, with a corpus:
`python tests/fuzz/instrumented.py tests/fuzz/fuzz_names.py -runs=1000000 CORPUS_DIRECTORY`.

Each has `SEEDS`, inputs to begin from, and a function `fuzz` that raises for an input that shows something wrong; only
its `__main__` part needs atheris."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent
TARGETS = sorted(HERE.glob("fuzz_*.py"))
RUNS = 3000

each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.stem)


def imported(target: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(target.stem, target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each_target
def test_seeds_and_their_parts_are_read(target):
    module = imported(target)
    for seed in module.SEEDS:
        for end in range(0, len(seed) + 1, max(1, len(seed) // 64)):
            module.fuzz(seed[:end])
            module.fuzz(seed[end:])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris, the fuzzer, is not installed")
@each_target
def test_nothing_is_found(target, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(imported(target).SEEDS):
        (corpus / str(number)).write_bytes(seed)
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "instrumented.py"),
            str(target),
            f"-runs={RUNS}",
            "-max_len=2048",
            "-seed=1",
            "-timeout=20",
            str(corpus),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
