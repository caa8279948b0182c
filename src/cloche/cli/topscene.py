"""What `cloche top` has to show, and the few things that all of its drawing shares. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloche.cli.topstate import State
from cloche.cli.usage import Track
from cloche.model.process import ProcessInfo

BOLD, DIM, REVERSE, RED, GREEN, YELLOW, CYAN = "1", "2", "7", "31", "32", "33", "36"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is shown. `about`: what is known of the node; `trouble`: why there is nothing newer."""

    state: State
    tracks: Sequence[Track]
    processes: Sequence[ProcessInfo] = ()
    about: str = ""
    trouble: str = ""
    now: float = 0.0
    ascii_only: bool = False

    @property
    def mark(self) -> str:
        return ">" if self.ascii_only else "…"


def paint(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and text.strip() else text


def first_shown(ids: Sequence[str], selected: str | None, room: int) -> int:
    """So that the selected one is among the `room` that are shown, in pages that do not jump."""
    if room <= 0 or selected not in ids:
        return 0
    return ids.index(selected) // room * room
