"""Tables, JSON and times. What comes out of a sandbox is made harmless before a terminal sees it."""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from collections.abc import Sequence
from typing import Any

#: control characters, and those that turn the direction of a line around
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean(text: object) -> str:
    """Text in which escape sequences and invisible characters have become visible: ESC is \\x1b."""
    return "".join(_visible(letter) if unicodedata.category(letter) in _HIDDEN else letter for letter in str(text))


def print_json(value: object) -> None:
    """One object and a newline. Only ASCII, so that nothing in it can act on a terminal."""
    write(json.dumps(value, indent=2 if sys.stdout.isatty() else None) + "\n")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on a terminal, aligned columns anywhere else."""
    cells = [[clean(cell) if cell not in (None, "") else "-" for cell in row] for row in rows]
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
        _rich(headings, cells)
    else:
        _plain(headings, cells)


def write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def ago(moment: float | None) -> str:
    """ "5m ago", or "in 5m" for what is to come."""
    if moment is None:
        return "-"
    seconds = time.time() - moment
    return f"in {span(-seconds)}" if seconds < -0.5 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """The largest whole unit: 90 → "1m"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def labels(found: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" if value else key for key, value in sorted(found.items()))


def _visible(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [headings, *rows])
    write("".join(line.rstrip() + "\n" for line in lines))


def _rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)
