"""Forks drawn below what they were forked from."""

from __future__ import annotations

from cloche.cli import family
from cloche.model.limits import Limits
from cloche.sdk.values import SandboxInfo, SpecInfo


def box(box_id: str, parent: str | None = None) -> SandboxInfo:
    return SandboxInfo(
        id=box_id, project_id="default", name=None, state="running", reason=None, engine="fake", isolation="none",
        spec=SpecInfo(), limits=Limits().resolved(), limits_unenforced=[], labels={}, created_at=1.0, started_at=1.0,
        expires_at=None, stopped_at=None, parent_id=parent,
    )  # fmt: skip


def drawn(boxes: list[SandboxInfo], *wanted: str) -> list[str]:
    found = family.branches(boxes, wanted or [each.id for each in boxes])
    return [branch.drawn + branch.id + ("" if branch.box else " gone") for branch in found]


def test_children_stand_below_their_parents() -> None:
    boxes = [box("a"), box("b", "a"), box("c", "b"), box("d", "a"), box("e")]
    assert drawn(boxes) == ["a", "├─ b", "│  └─ c", "└─ d", "e"]


def test_a_parent_that_is_gone_is_its_id() -> None:
    assert drawn([box("b", "a"), box("c", "a")]) == ["a gone", "├─ b", "└─ c"]


def test_what_is_above_the_wanted_is_shown_and_what_is_beside_them_is_not() -> None:
    boxes = [box("a"), box("b", "a"), box("c", "b"), box("d", "a"), box("e")]
    assert drawn(boxes, "c") == ["a", "└─ b", "   └─ c"]


def test_a_circle_is_not_followed_for_ever() -> None:
    assert drawn([box("a", "b"), box("b", "a"), box("c")]) == ["c"]
    assert drawn([]) == []
