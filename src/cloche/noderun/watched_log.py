"""The log of a node that somebody watches: one short line for each entry on stderr."""

from __future__ import annotations

import logging
import sys
from datetime import datetime

#: a field is something to see at a glance; the whole entry is in node.log
MAX_FIELD = 200


class ShortLines(logging.Formatter):
    """`12:04:55 info ready pid=1234`; what a sandbox said cannot act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = getattr(record, "fields", None) or {}
        said = " ".join(f"{name}={_short(value)}" for name, value in fields.items())
        return f"{at} {record.levelname.lower():7} {_short(record.getMessage())} {said}".rstrip()


def show_log() -> None:
    """Send everything that is logged to stderr as well."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ShortLines())
    logging.getLogger().addHandler(handler)


def _short(value: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:MAX_FIELD])
