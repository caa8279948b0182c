"""How a question of the door looks on a terminal, and what an answer means. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cloche.cli import cells
from cloche.cli.render import clean
from cloche.model.egress import Ask, Verdict

ANSWERS: dict[str, Verdict] = {"o": "once", "a": "always", "d": "deny"}
_MEANINGS = (
    ("o", "once", "this connection"),
    ("a", "always", "this and all that are like it from now on"),
    ("d", "deny", "not now, and it is not asked again while this runs"),
)
#: what an answer would say of a part of the name that does not fit
MAX_PART = 200


def what(ask: Ask) -> str:
    """ "pip wants to reach example.org:443 (GET /a)", in one harmless line."""
    who = clean(ask.process[:60]) if ask.process else "the code"
    request = f" ({clean(ask.method[:20])} {clean(ask.path[:MAX_PART])})" if ask.method else ""
    return f"{who} wants to reach {place(ask)}{request}"


def place(ask: Ask) -> str:
    """ "example.org:443" or "[2001:db8::1]:443"."""
    return clean(f"[{ask.host}]:{ask.port}" if ":" in ask.host else f"{ask.host[:253]}:{ask.port}")


def line(ask: Ask) -> str:
    """The question in one line, for a terminal that is not taken over."""
    return f"cloche: {what(ask)}. Allow it? (o)nce, (a)lways, (d)eny: "


def told(ask: Ask, box: str) -> str:
    """The question for somebody who has to answer it elsewhere."""
    return (
        f"cloche: {what(ask)}, and waits for an answer\n"
        f"  try: cloche policy answer {clean(box)} {clean(ask.id)} once|always|deny"
    )


def panel(ask: Ask, box: str, columns: int, now: float | None = None) -> list[str]:
    """The question on a screen of its own, in lines of at most so many cells."""
    left = max(0, round(ask.expires_at - (time.time() if now is None else now)))
    rest = f" Without an answer it is denied in {left} s." if ask.expires_at else ""
    lines = [
        f"Cloche: sandbox {clean(box)}",
        "",
        what(ask),
        "and the network policy says: ask.",
        "",
        *(f"  {key}  {verdict:<6}  {meaning}" for key, verdict, meaning in _MEANINGS),
        "",
        f"Type a letter, then Enter.{rest}",
        "",
    ]
    return [part for text in lines for part in cells.folded(text, max(20, columns - 2))]


def verdict_of(typed: str) -> Verdict | None:
    """ "o", "once", "O " → "once"; None: not understood."""
    said = typed.strip().lower()
    if said in ("o", "a", "d", *ANSWERS.values()):
        return ANSWERS[said[0]]
    return None


class Typed:
    """One line that is typed on a raw terminal. Ctrl-C and Ctrl-D mean deny; sequences of keys that are no letters
    are passed over."""

    def __init__(self) -> None:
        self.text = ""

    def take(self, piece: bytes) -> Verdict | None:
        """The answer when this piece ends one."""
        if piece.startswith(b"\x1b"):
            return None
        for letter in piece.decode("ascii", "ignore"):
            if letter in "\x03\x04":
                return "deny"
            if letter in "\r\n":
                found = verdict_of(self.text)
                self.text = ""
                if found is not None:
                    return found
            elif letter in "\x7f\b":
                self.text = self.text[:-1]
            elif letter.isalpha():
                self.text = (self.text + letter)[-8:]
        return None


def same(ask: Ask) -> tuple[str, int, str]:
    """What counts as the same question once somebody has said no."""
    return (ask.host, ask.port, ask.method)


def join(lines: Sequence[str]) -> bytes:
    """For a raw terminal, which does not go back to the first column by itself."""
    return "\r\n".join(lines).encode("utf-8", "replace")
