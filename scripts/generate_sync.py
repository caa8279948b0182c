"""Write the blocking half of the SDK from its async half, token by token.

`python scripts/generate_sync.py` writes, with `--check` it only says what is stale."""

from __future__ import annotations

import io
import sys
import tokenize
from pathlib import Path

SDK = Path(__file__).resolve().parents[1] / "src" / "cloche" / "sdk"
BY_HAND = frozenset({"__init__.py", "bridge.py", "forwarding.py", "stream.py"})
HEADER = (
    "# Made from ../_async/{name} by scripts/generate_sync.py: edit there.\n# ruff: noqa: C416, I001, RUF100, UP028\n"
)

NAMES = {
    "_async": "_sync",
    "__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__",
    "aclose": "close", "aiter_stream": "iter_stream", "handle_async_request": "handle_request",
    "aclosing": "closing", "anext": "next", "asynccontextmanager": "contextmanager",
    "AsyncIterator": "Iterator", "AsyncIterable": "Iterable", "AsyncGenerator": "Generator",
}  # fmt: skip
PREFIX = "Async"
DROPPED = frozenset({"async", "await"})


def to_sync(source: str) -> str:
    """The same program without `async`, with the names that the blocking half uses."""
    lines = source.splitlines(keepends=True)
    edits: list[tuple[int, int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.NAME:
            continue
        row, start = token.start
        end = token.end[1]
        if token.string in DROPPED:
            edits.append((row, start, end + 1, ""))
        elif (name := _renamed(token.string)) != token.string:
            edits.append((row, start, end, name))
    for row, start, end, text in reversed(edits):
        line = lines[row - 1]
        lines[row - 1] = line[:start] + text + line[end:]
    return "".join(lines)


def generated() -> dict[Path, str]:
    """Path → text of every file of the blocking half that is not written by hand."""
    sources = sorted((SDK / "_async").glob("*.py"))
    return {
        SDK / "_sync" / path.name: HEADER.format(name=path.name) + to_sync(path.read_text())
        for path in sources
        if path.name not in BY_HAND
    }


def main() -> int:
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    for path in stale if "--check" not in sys.argv else []:
        path.write_text(generated()[path])
    for path in stale:
        print(f"{'stale' if '--check' in sys.argv else 'wrote'}: {path.name}", file=sys.stderr)
    return 1 if stale and "--check" in sys.argv else 0


def _renamed(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    return name.removeprefix(PREFIX)


if __name__ == "__main__":
    sys.exit(main())
