"""One cell of code shown on this program's streams: what it prints as it prints it, its value, its pictures."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cloche.cli import attach
from cloche.cli.failure import say
from cloche.cli.gate import Gate
from cloche.cli.render import clean
from cloche.model.errors import InvalidError
from cloche.sdk._sync.executions import CodeStream
from cloche.sdk.code import Execution, Result, harmless

#: what is shown is not needed again
KEPT_BYTES = 1 << 20
MAX_PICTURES = 1000
_STATUS = {"ok": 0, "error": 1, "interrupted": 130, "timeout": 124, "context_ended": 1}
_PNG_SIZE = struct.Struct(">8x4x4sII")


@dataclass
class Shown:
    """Takes the text and the results of cells. `pictures`: the directory in which pictures are kept, None: nowhere.
    `gate`: what is shown waits there while the terminal has a question."""

    pictures: Path | None = None
    gate: Gate | None = None
    _saved: int = 0
    _in_line: bool = False

    def cell(self, stream: CodeStream) -> Execution:
        """Show it to its end → how it ended. Raises BrokenPipeError, OSError, and what reading the stream does."""
        done = stream.result(
            on_stdout=self._stdout, on_stderr=self._stderr, on_result=self._result, max_output_bytes=KEPT_BYTES
        )
        self._end_line()
        if done.error is not None:
            self._stderr(_fit(done.error.traceback or str(done.error), 2).rstrip("\n") + "\n")
        _tell(done)
        return done

    def _stdout(self, text: str) -> None:
        self._write(1, text)
        self._in_line = not text.endswith("\n")

    def _stderr(self, text: str) -> None:
        self._write(2, text)

    def _write(self, descriptor: int, text: str) -> None:
        data = text.encode("utf-8", "replace")
        if self.gate is None:
            attach.write_all(descriptor, data)
        else:
            self.gate.write(data, partial(attach.write_all, descriptor))

    def _end_line(self) -> None:
        """On a terminal what comes next begins a line; elsewhere the output is what the code wrote."""
        if self._in_line and os.isatty(1):
            self._stdout("\n")

    def _result(self, result: Result) -> None:
        self._end_line()
        text = result.text if result.text is not None else result.markdown
        if text is not None:
            self._stdout(f"{_fit(text, 1)}\n")
        for kind, data in pictures_of(result):
            self._stdout(f"[{kind}{_measures(kind, data)} {self._kept(kind, data)}]\n")
        if text is None and not pictures_of(result):
            self._stdout(f"[{clean(', '.join(result.formats))}]\n")
        if result.left_out:
            say(f"cloche: too large, and left out: {clean(', '.join(result.left_out))}")

    def _kept(self, kind: str, data: bytes) -> str:
        if self.pictures is None:
            return f"{len(data)} bytes; --save-images DIR keeps it"
        suffix = kind.partition("/")[2].partition("+")[0]
        return f"saved to {clean(self._save(data, suffix))}"

    def _save(self, data: bytes, suffix: str) -> Path:
        """Never over something that is there."""
        assert self.pictures is not None
        try:
            self.pictures.mkdir(parents=True, exist_ok=True)
            while self._saved < MAX_PICTURES:
                self._saved += 1
                path = self.pictures / f"image-{self._saved}.{suffix}"
                try:
                    with open(path, "xb") as file:
                        file.write(data)
                    return path
                except FileExistsError:
                    continue
        except OSError as error:
            raise InvalidError(f"cannot save a picture in {self.pictures}: {error.strerror}") from error
        raise InvalidError(f"{self.pictures} has {MAX_PICTURES} pictures already", remedy="name another directory")


def status_of(done: Execution) -> int:
    """0 ok, 1 the code raised or lost its interpreter, 124 timeout, 130 interrupted."""
    return _STATUS[done.status]


def pictures_of(result: Result) -> list[tuple[str, bytes]]:
    """(MIME type, content) of each format of a result that is a picture."""
    svg = result.svg.encode("utf-8", "replace") if result.svg else None
    found = (("image/png", result.png), ("image/jpeg", result.jpeg), ("image/svg+xml", svg))
    return [(kind, data) for kind, data in found if data]


def as_json(sandbox_id: str, done: Execution) -> dict[str, Any]:
    return {"sandbox": sandbox_id, **done.to_json()}


def _measures(kind: str, data: bytes) -> str:
    """ " 640x480" where that is easily seen."""
    if kind != "image/png" or len(data) < _PNG_SIZE.size:
        return ""
    chunk, width, height = _PNG_SIZE.unpack_from(data)
    return f" {width}x{height}" if chunk == b"IHDR" else ""


def _tell(done: Execution) -> None:
    if done.status == "timeout":
        say("cloche: the code hit its timeout" + ("" if done.state_kept else "; its variables are gone"))
    elif done.status == "context_ended":
        why = f" at its {done.limit_hit} limit" if done.limit_hit else ""
        say(f"cloche: the interpreter ended{why}; its variables are gone")
    if done.lost_events:
        say(f"cloche: {done.lost_events} pieces of output were lost before they could be read")


def _fit(text: str, descriptor: int) -> str:
    """What a terminal would act on is made harmless; a pipe gets what the code said."""
    return harmless(text) if os.isatty(descriptor) else text


def read_code(path: str) -> str:
    """Code of a file, or of stdin for `-`. Raises InvalidError for what is too large or cannot be read."""
    from cloche.model.code import MAX_CODE_BYTES

    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            content = file.read(MAX_CODE_BYTES + 1)
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_CODE_BYTES:
        raise InvalidError(f"code is larger than {MAX_CODE_BYTES} bytes")
    return content.decode("utf-8", "surrogateescape")


def has_terminal() -> bool:
    return os.isatty(0) and sys.stdin is not None
