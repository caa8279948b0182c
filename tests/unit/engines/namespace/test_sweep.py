"""What a crash left in the data directory is found by name, and nothing else is touched."""

from __future__ import annotations

import asyncio

from cloche.engines.namespace.engine import NamespaceEngine


def test_strangers_and_killed_probes_go_and_the_known_stay(tmp_path):
    for name in ("run/sb_known", "run/sb_stranger", "run/other", "probe-x", "sandboxes/sb_stranger"):
        (tmp_path / name).mkdir(parents=True)
    removed = asyncio.run(NamespaceEngine(tmp_path).sweep(frozenset({"sb_known"})))
    assert sorted(removed) == ["directory probe-x", "directory sb_stranger"]
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"run", "run/sb_known", "run/other", "sandboxes", "sandboxes/sb_stranger"}
