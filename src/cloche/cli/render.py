"""Tables, JSON and times. What comes out of a sandbox is made harmless before a terminal sees it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloche.model.process import ProcessInfo

#: control characters, and those that turn the direction of a line around
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MARKS = frozenset({"Mn", "Me"})
MAX_MARKS = 3
#: on the processes of `cloche shell`
SHELL_TAG = "cloche shell"


def clean(text: object) -> str:
    """Text in which escape sequences and invisible characters have become visible: ESC is \\x1b. Of marks that are put
    on a letter only so many stay as no language needs more: a pile of them reaches into other lines."""
    said = str(text)
    if said.isascii() and said.isprintable():
        return said
    return "".join(_harmless(said))


def _harmless(text: str) -> Iterator[str]:
    marks = 0
    for letter in text:
        category = unicodedata.category(letter)
        marks = marks + 1 if category in _MARKS else 0
        yield _visible(letter) if category in _HIDDEN or marks > MAX_MARKS else letter


def command_of(process: ProcessInfo, most: int) -> str:
    """The beginning of what a process runs, in at most about `most` characters. What `cloche shell` starts is a script
    of Cloche's own, which would tell nobody anything."""
    if process.tag == SHELL_TAG:
        return "shell"
    return clean(" ".join(process.argv)[:most])


def print_json(value: object) -> None:
    """One object and a newline. Only ASCII, so that nothing in it can act on a terminal."""
    write(json.dumps(value, indent=2 if sys.stdout.isatty() else None) + "\n")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, drop: Sequence[str] = ()) -> None:
    """Aligned columns; on a terminal they fit its width, for which the columns in `drop` are left out in that order."""
    lines = table_lines(headings, rows, drop)
    if lines and colours() and lines[0].startswith(headings[0]) and " " in lines[0]:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    write("".join(f"{line}\n" for line in lines))


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[object]], drop: Sequence[str] = ()) -> list[str]:
    """What `print_table` prints, line by line, harmless and without colours; an empty cell is "-"."""
    from cloche.cli import tables

    cells = [[clean(cell) if cell not in (None, "") else "-" for cell in row] for row in rows]
    return tables.lines(list(headings), cells, columns(), drop)


def columns() -> int | None:
    """How wide the terminal is; None when standard output is none."""
    if not sys.stdout.isatty():
        return None
    return max(1, shutil.get_terminal_size().columns)


def colours() -> bool:
    """Whether standard output is a terminal that may be sent colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


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


def size(count: float | None) -> str:
    """Bytes as people say them, in at most five characters: 1536 → "1.5K"."""
    if count is None:
        return "-"
    for unit in ("B", "K", "M", "G"):
        if count < 999.5:
            return f"{count:.0f}{unit}" if unit == "B" or count >= 99.95 else f"{count:.1f}".removesuffix(".0") + unit
        count /= 1024
    return f"{count:.1f}".removesuffix(".0") + "T"


def percent(value: float | None) -> str:
    """Of one CPU: 250 is two and a half."""
    return "-" if value is None else f"{value:.0f}%" if value >= 9.95 else f"{value:.1f}%"


def clock(moment: float) -> str:
    """Local time of UTC seconds, to the second."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    except (OverflowError, OSError, ValueError):
        return "-"


def labels(found: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" if value else key for key, value in sorted(found.items()))


def _visible(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
