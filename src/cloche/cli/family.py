"""Sandboxes as a tree: forks below what they were forked from. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloche.sdk.values import SandboxInfo

#: in front of a child, and below it, when others follow and when it is the last
_MORE, _LAST = ("├─ ", "│  "), ("└─ ", "   ")


@dataclass(frozen=True)
class Branch:
    """One line: what is drawn in front of the id. `box` None: the sandbox is gone, and only its id is known."""

    drawn: str
    id: str
    box: SandboxInfo | None


def branches(boxes: Sequence[SandboxInfo], wanted: Sequence[str]) -> list[Branch]:
    """Those with these ids and everything above them that `boxes` has, parents before children, oldest first."""
    known = {box.id: box for box in boxes}
    shown = {each for box_id in wanted if box_id in known for each in _line(known, box_id)}
    children: dict[str, list[str]] = {}
    for box_id in sorted(shown):
        children.setdefault(_parent(known, box_id), []).append(box_id)
    return [branch for root in children.get("", []) for branch in _drawn(known, children, root, "", "")]


def _parent(known: dict[str, SandboxInfo], box_id: str) -> str:
    """Empty: there is none, or it is not known."""
    return (known[box_id].parent_id or "") if box_id in known else ""


def _line(known: dict[str, SandboxInfo], box_id: str) -> Iterator[str]:
    """It, its parent, the parent of that."""
    seen: set[str] = set()
    while box_id and box_id not in seen:
        seen.add(box_id)
        yield box_id
        box_id = _parent(known, box_id)


def _drawn(
    known: dict[str, SandboxInfo], children: dict[str, list[str]], box_id: str, drawn: str, below: str
) -> Iterator[Branch]:
    yield Branch(drawn, box_id, known.get(box_id))
    mine = children.get(box_id, [])
    for child in mine:
        corner, line = _LAST if child == mine[-1] else _MORE
        yield from _drawn(known, children, child, below + corner, below + line)
