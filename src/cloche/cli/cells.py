"""How wide text is on a terminal, and text made to fit: everything that draws columns counts in these cells."""

from __future__ import annotations

import os
from collections.abc import Mapping


def width(text: str) -> int:
    """Cells that the text takes; wide characters take two and combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, cells: int, mark: str = "…") -> str:
    """At most so many cells; what was cut ends with the mark."""
    if width(text) <= cells:
        return text
    if cells <= width(mark):
        return mark[: max(0, cells)]
    left = cells - width(mark)
    kept = text[:left]
    while width(kept) > left:
        kept = kept[:-1]
    return kept + mark


def fit(text: str, cells: int, *, right: bool = False, mark: str = "…") -> str:
    """Exactly so many cells: cut, or filled up with spaces."""
    shown = cut(text, cells, mark)
    space = " " * (cells - width(shown))
    return space + shown if right else shown + space


def folded(text: str, cells: int) -> list[str]:
    """The text in lines of at most so many cells, broken at spaces where there are any near the end."""
    lines = []
    while width(text) > cells:
        line = cut(text, cells, "") or text[0]
        space = line.rfind(" ")
        if space > cells // 2:
            line = line[:space]
        lines.append(line)
        text = text[len(line) :].lstrip(" ")
    return [*lines, text] if text or not lines else lines


def shows_unicode(environ: Mapping[str, str]) -> bool:
    """Whether the locale promises more than ASCII."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        chosen = environ.get(name, "")
        # Python itself sets this one where the locale is C
        if chosen and not (name == "LC_CTYPE" and chosen == "C.UTF-8" and environ.get("LANG") in ("C", "POSIX")):
            return "utf" in chosen.lower()
    return False


def unicode_here() -> bool:
    return shows_unicode(os.environ)
