"""A row of numbers as a row of small bars, and a share of a whole as one bar."""

from __future__ import annotations

from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.-:=+*#"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def sparkline(values: Sequence[float | None], cells: int, top: float, *, ascii_only: bool = False) -> str:
    """The newest `cells` values, the newest on the right; `top` and what is above it is a full bar, None is a hole."""
    levels = ASCII_LEVELS if ascii_only else LEVELS
    shown = [_level(value, top, levels) for value in values[-cells:]] if cells > 0 else []
    return "".join(shown).rjust(max(0, cells))


def bar(share: float | None, cells: int, *, ascii_only: bool = False) -> str:
    """A share from 0 to 1 as a bar of so many cells."""
    if share is None or cells <= 0:
        return " " * max(0, cells)
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    if ascii_only:
        return ("#" * round(eighths / 8)).ljust(cells, ".")
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(cells)


def _level(value: float | None, top: float, levels: str) -> str:
    if value is None:
        return " "
    share = value / top if top > 0 else 0.0
    return levels[max(0, min(len(levels) - 1, int(share * len(levels))))]
