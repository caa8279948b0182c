"""The node's log: one JSON object a line in node.log, rotated by size, readable and followable over the API.

Lines carry names and numbers of what happened. Bodies, queries and environments never get here."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import traceback
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from types import TracebackType
from typing import IO

from cloche.model.place import LOG_NAME
from cloche.noderun.settings import LogLevel

MAX_FILE_BYTES = 5 << 20
FILES = 3
MAX_LINE_BYTES = 64 << 10
#: lines that a slow follower may be behind before it loses some
FOLLOWER_LINES = 1000


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage()[: MAX_LINE_BYTES // 8],
        }
        if fields := getattr(record, "fields", None):
            line["fields"] = fields
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))[-MAX_LINE_BYTES // 2 :]
        return json.dumps(line, default=str, ensure_ascii=True)


class NodeLog(RotatingFileHandler):
    """Writes the file and hands each line to whoever follows."""

    def __init__(self, home: str, *, owns_stderr: bool) -> None:
        self._owns_stderr = owns_stderr
        self._followers: set[asyncio.Queue[bytes]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._home = home
        super().__init__(f"{home}/{LOG_NAME}", maxBytes=MAX_FILE_BYTES, backupCount=FILES - 1, encoding="utf-8")
        self.setFormatter(JsonLines())

    def _open(self) -> IO[str]:  # type: ignore[override]
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._owns_stderr:
            # what the interpreter itself says when it dies belongs into the file of now, not of before a rotation
            os.dup2(descriptor, 2)
        return open(descriptor, "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if self._followers and self._loop is not None:
            line = self.format(record).encode("utf-8") + b"\n"
            self._loop.call_soon_threadsafe(self._hand_out, line)

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not take the node down: the line is lost."""

    async def lines(self, count: int, *, follow: bool) -> AsyncIterator[bytes]:
        """The newest `count` lines, oldest first, and then with `follow` each new one."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue(FOLLOWER_LINES)
        if follow:
            self._followers.add(queue)
        try:
            for line in await asyncio.to_thread(tail, self._home, count):
                yield line
            while follow:
                yield await queue.get()
        finally:
            self._followers.discard(queue)

    def _hand_out(self, line: bytes) -> None:
        for queue in self._followers:
            if not queue.full():
                queue.put_nowait(line)


def start_log(home: str, level: LogLevel, *, owns_stderr: bool) -> NodeLog:
    """Send everything that is logged to node.log; crashes of any thread too."""
    handler = NodeLog(home, owns_stderr=owns_stderr)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("cloche").setLevel(level.upper())
    # a relay that is cut is no error of the server's, and crashes are logged where they are caught
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    sys.excepthook = _log_crash
    return handler


def stop_log(handler: NodeLog) -> None:
    logging.getLogger().removeHandler(handler)
    handler.close()


def tail(home: str, count: int) -> list[bytes]:
    """The newest `count` lines over all rotated files. Lines that are no JSON (what a dying interpreter writes) are
    wrapped, so that every line is JSON."""
    found: deque[bytes] = deque(maxlen=count)
    for number in range(FILES - 1, -1, -1):
        found.extend(_lines_of(f"{home}/{LOG_NAME}{f'.{number}' if number else ''}"))
    return list(found)


def _lines_of(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            for line in file:
                yield _as_json(line)
    except FileNotFoundError:
        return


def _as_json(line: bytes) -> bytes:
    if line.startswith(b'{"') and line.endswith(b"}\n"):
        return line
    text = line.decode("utf-8", "replace").rstrip("\n")[:MAX_LINE_BYTES]
    return json.dumps({"level": "error", "event": "stderr", "fields": {"text": text}}).encode() + b"\n"


def _log_crash(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    logging.getLogger("cloche.node").critical("crashed", exc_info=(kind, error, at))
