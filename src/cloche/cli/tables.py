"""Columns of text laid out for a width: pure, so that every width can be tested.

Too narrow for all columns: the ones that matter least are left out; then the widest are folded; and where not even
that helps, each row becomes a small block of its own."""

from __future__ import annotations

from collections.abc import Sequence

from cloche.cli import cells

GAP = 2
#: a column is not folded below this
NARROWEST = 12
Row = Sequence[str]


def lines(headings: Row, rows: Sequence[Row], width: int | None = None, drop: Sequence[str] = ()) -> list[str]:
    """The headings and the rows; `drop` names the columns to leave out for a `width`, the first of them first."""
    headings, rows = _without(headings, rows, drop, width)
    widths = _widths(headings, rows)
    if width is None or _total(widths) <= width:
        return _table(headings, rows, widths)
    narrowed = _narrowed(widths, headings, width)
    return _table(headings, rows, narrowed) if narrowed else _blocks(headings, rows, width)


def _without(headings: Row, rows: Sequence[Row], drop: Sequence[str], width: int | None) -> tuple[Row, Sequence[Row]]:
    for name in drop:
        if width is None or _total(_widths(headings, rows)) <= width:
            break
        if name in headings and len(headings) > 1:
            at = headings.index(name)
            headings, rows = _less(headings, at), [_less(row, at) for row in rows]
    return headings, rows


def _less(row: Row, at: int) -> Row:
    return [*row[:at], *row[at + 1 :]]


def _widths(headings: Row, rows: Sequence[Row]) -> list[int]:
    return [max(cells.width(row[column]) for row in [headings, *rows]) for column in range(len(headings))]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _narrowed(widths: Sequence[int], headings: Row, width: int) -> list[int] | None:
    """Take from the widest until all fit; the first column, by which a row is named, stays whole."""
    narrowed = list(widths)
    least = [max(cells.width(heading), NARROWEST) for heading in headings]
    while (excess := _total(narrowed) - width) > 0:
        room = [(narrowed[at], at) for at in range(1, len(narrowed)) if narrowed[at] > least[at]]
        if not room:
            return None
        at = max(room)[1]
        narrowed[at] -= min(excess, max(1, narrowed[at] - least[at]), _lead(narrowed, at))
    return narrowed


def _lead(widths: Sequence[int], at: int) -> int:
    """How much wider this column is than the next one."""
    others = [width for other, width in enumerate(widths) if other not in (0, at)]
    return max(1, widths[at] - max(others, default=0))


def _table(headings: Row, rows: Sequence[Row], widths: Sequence[int]) -> list[str]:
    return [line for row in [headings, *rows] for line in _row(row, widths)]


def _row(row: Row, widths: Sequence[int]) -> list[str]:
    columns = [cells.folded(cell, width) for cell, width in zip(row, widths, strict=True)]
    height = max(len(column) for column in columns)
    filled = [[*column, *[""] * (height - len(column))] for column in columns]
    return [
        (" " * GAP).join(cells.fit(column[at], width) for column, width in zip(filled, widths, strict=True)).rstrip()
        for at in range(height)
    ]


def _blocks(headings: Row, rows: Sequence[Row], width: int) -> list[str]:
    found: list[str] = []
    for row in rows:
        found += [""] if found else []
        for heading, cell in zip(headings, row, strict=True):
            found += cells.folded(f"{heading} {cell}", max(1, width))
    return found or cells.folded(" ".join(headings), max(1, width))
