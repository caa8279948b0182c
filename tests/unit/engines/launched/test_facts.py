"""Ranges of subordinate ids, and the id mode that follows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cloche.engines.launched.facts import Facts, SubIds, parse_subids
from cloche.images.host import HostSurvey

FACTS = Facts(uid=1000, gid=1000, subids=None, cgroups=None, host=HostSurvey(), launcher=Path("/l"), guest=Path("/g"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ann:100000:65536\n", (100000, 65536)),
        ("bob:1:65536\nann:165536:131072\n", (165536, 65536)),
        ("1000:300000:65536\n", (300000, 65536)),
        ("ann:100000:1000\nann:200000:65536\n", (200000, 65536)),
        ("ann:100000:65535\n", None),
        ("annabel:100000:65536\n", None),
        ("# ann:100000:65536\n", None),
        ("ann:x:65536\nann:1:y\nann\nann:\n\n", None),
        ("ann:-5:65536\n", None),
        ("", None),
    ],
)
def test_subids(text: str, found: tuple[int, int] | None) -> None:
    assert parse_subids(text, "ann", 1000) == found


def test_id_modes() -> None:
    subids = SubIds(100000, 100000, 65536, "/usr/bin/newuidmap", "/usr/bin/newgidmap")
    helper, root = dataclasses.replace(FACTS, subids=subids), dataclasses.replace(FACTS, uid=0)
    assert [facts.id_mode for facts in (FACTS, helper, root)] == ["one", "helper", "range"]
    assert [facts.many_users for facts in (FACTS, helper, root)] == [False, True, True]
