"""Figures that are not the time of one action: rates, memory, bytes per second."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """`goal` is the bound that was set for it: at least when `more_is_better`, at most otherwise."""

    group: str
    name: str
    value: float
    unit: str
    goal: float | None = None
    more_is_better: bool = False

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal

    def row(self) -> dict[str, object]:
        head: dict[str, object] = {"group": self.group, "name": self.name, "value": round(self.value, 3)}
        return head | {"unit": self.unit} | ({"goal": self.goal, "met": self.met} if self.goal is not None else {})


@dataclass(frozen=True)
class Study:
    """Makes its figures on a node of its own home; raises Unavailable with the reason when it cannot."""

    group: str
    run: Callable[[], Iterable[Figure]]
