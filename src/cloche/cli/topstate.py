"""What `cloche top` shows and what keys do to that: a state and a function from keys to it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cloche.cli.usage import Track
from cloche.model.process import ProcessInfo

Sort = Literal["cpu", "memory", "disk", "processes", "age", "name"]
SORTS: dict[str, Sort] = {"c": "cpu", "m": "memory", "d": "disk", "p": "processes", "a": "age", "n": "name"}
MAX_FILTER = 40


@dataclass(frozen=True, slots=True)
class Wish:
    """Something to be done to a sandbox, or to a process in it; asked before it is done."""

    what: Literal["stop", "kill"]
    sandbox: str
    label: str
    process: str | None = None

    @property
    def question(self) -> str:
        of = f" {self.process[:10]} in" if self.process else ""
        return f"{self.what}{of} {self.label}? y/n"


@dataclass(slots=True)
class State:
    """`detail`: the id of the sandbox whose processes are shown. `wish`: what waits for a y; `agreed`: what is to be
    done now. `typing`: keys go into the filter."""

    sort: Sort = "cpu"
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    selected: str | None = None
    detail: str | None = None
    process: str | None = None
    wish: Wish | None = None
    agreed: Wish | None = None
    message: str = ""
    over: bool = False
    page: int = field(default=10)


def visible(state: State, tracks: Sequence[Track]) -> list[Track]:
    """Those that match the filter, sorted. The most comes first, but ages and names begin with the smallest."""
    wanted = state.filter.lower()
    found = [track for track in tracks if wanted in track.label.lower() or wanted in track.id]
    largest_first = state.sort not in ("name", "age")
    return sorted(found, key=_KEYS[state.sort], reverse=largest_first != state.reverse)


def press(state: State, key: str, tracks: Sequence[Track], processes: Sequence[ProcessInfo]) -> None:
    """One key. `tracks` are the visible ones."""
    state.message = ""
    if key == "ctrl-c":
        state.over = True
    elif state.wish is not None:
        state.agreed, state.wish = (state.wish if key in ("y", "Y") else None), None
    elif state.typing:
        _type(state, key)
    elif key in ("q", "Q", "ctrl-d"):
        state.over = True
    elif state.detail is not None:
        _press_in_detail(state, key, tracks, processes)
    else:
        _press_in_table(state, key, tracks)


def _type(state: State, key: str) -> None:
    if key == "backspace":
        state.filter = state.filter[:-1]
    elif key == "ctrl-u":
        state.filter = ""
    elif key in ("enter", "escape"):
        state.typing = False
        state.filter = "" if key == "escape" else state.filter
    elif len(key) == 1 and len(state.filter) < MAX_FILTER:
        state.filter += key


def _press_in_table(state: State, key: str, tracks: Sequence[Track]) -> None:
    if key in SORTS:
        state.sort = SORTS[key]
    elif key == "r":
        state.reverse = not state.reverse
    elif key == "/":
        state.typing = True
    elif key == "escape":
        state.selected, state.filter = None, ""
    elif (moved := _moved(key, state.page, state.selected, [track.id for track in tracks])) is not None:
        state.selected = moved
    elif key in ("enter", "right") and tracks and _chosen(state, tracks) is None:
        state.selected = tracks[0].id  # opened by the next press, when one has seen which it is
    elif (chosen := _chosen(state, tracks)) is not None:
        if key in ("enter", "right"):
            state.detail, state.process = chosen.id, None
        elif key in ("s", "k"):
            state.wish = Wish("stop" if key == "s" else "kill", chosen.id, chosen.label)


def _press_in_detail(state: State, key: str, tracks: Sequence[Track], processes: Sequence[ProcessInfo]) -> None:
    if key in ("escape", "left", "backspace", "enter"):
        state.detail, state.process = None, None
    elif (moved := _moved(key, state.page, state.process, [each.id for each in processes])) is not None:
        state.process = moved
    elif key == "k" and state.process in [each.id for each in processes if each.state == "running"]:
        assert state.detail is not None
        label = next((track.label for track in tracks if track.id == state.detail), state.detail)
        state.wish = Wish("kill", state.detail, label, state.process)


def _chosen(state: State, tracks: Sequence[Track]) -> Track | None:
    return next((track for track in tracks if track.id == state.selected), None)


def _moved(key: str, page: int, selected: str | None, ids: Sequence[str]) -> str | None:
    """The id that is selected after this key; None when it moves nothing."""
    steps = {"up": -1, "down": 1, "page up": -page, "page down": page, "home": -len(ids), "end": len(ids)}
    if key not in steps or not ids:
        return None
    if selected not in ids:
        return ids[-1] if key == "end" else ids[0]
    return ids[max(0, min(len(ids) - 1, ids.index(selected) + steps[key]))]


def _amount(value: float | None) -> float:
    return -1.0 if value is None else value


_KEYS: dict[Sort, Callable[[Track], tuple[float | str, str]]] = {
    "cpu": lambda track: (_amount(track.cpu_percent), track.id),
    "memory": lambda track: (_amount(track.stats.memory_bytes), track.id),
    "disk": lambda track: (_amount(track.stats.disk_bytes), track.id),
    "processes": lambda track: (_amount(track.stats.processes), track.id),
    "age": lambda track: (track.sandbox.created_at, track.id),
    "name": lambda track: (track.label, track.id),
}
