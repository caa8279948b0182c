"""What running code in a context gives: its output, its results in several formats, and how it ended.

Everything in it was made by the sandbox. Text comes as it was written; what Python or a notebook shows of these values
by itself has no control characters and no markup that could act."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from cloche.model.code import ExecutionStatus, ResultKind
from cloche.model.process import LimitName

MAX_SHOWN_CHARS = 200
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One value that the code gave: its last expression (`kind` "value") or what it displayed on the way ("display").
    `data` has its formats by MIME type; properties are None for formats that it does not have. `left_out` names formats
    that were too large. Markup comes from the sandbox: show `html` and `svg` only where they cannot act."""

    kind: ResultKind
    data: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def formats(self) -> list[str]:
        """The MIME types in `data`."""
        return list(self.data)

    @property
    def text(self) -> str | None:
        """text/plain: what an interpreter would print."""
        return self._text("text/plain")

    @property
    def html(self) -> str | None:
        """text/html, for example a pandas table."""
        return self._text("text/html")

    @property
    def markdown(self) -> str | None:
        """text/markdown."""
        return self._text("text/markdown")

    @property
    def latex(self) -> str | None:
        """text/latex."""
        return self._text("text/latex")

    @property
    def svg(self) -> str | None:
        """image/svg+xml, as text."""
        return self._text("image/svg+xml")

    @property
    def png(self) -> bytes | None:
        """image/png; None also when the code gave something that is no base64."""
        return self._image("image/png", b"\x89PNG")

    @property
    def jpeg(self) -> bytes | None:
        """image/jpeg; None also when the code gave something that is no base64."""
        return self._image("image/jpeg", b"\xff\xd8")

    @property
    def json(self) -> Any:
        """application/json, as Python values."""
        return self.data.get("application/json")

    def __repr__(self) -> str:
        return f"<Result {self.kind}: {_shown(self.text or ', '.join(map(str, self.data)))}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """For notebooks: text and pictures, none of the formats in which a stranger's markup would run."""
        shown: dict[str, Any] = {"text/plain": harmless(self.text or ", ".join(map(str, self.data)))}
        shown |= {"image/png": self.png} if self.png else {}
        shown |= {"image/jpeg": self.jpeg} if self.jpeg else {}
        return shown

    def _text(self, kind: str) -> str | None:
        value = self.data.get(kind)
        return mended(value) if isinstance(value, str) else None

    def _image(self, kind: str, begins: bytes) -> bytes | None:
        value = self.data.get(kind)
        try:
            image = base64.b64decode(value, validate=False) if isinstance(value, str) else b""
        except (binascii.Error, ValueError):
            return None
        return image if image.startswith(begins) else None


@dataclass(frozen=True, slots=True)
class CodeFailure:
    """What the code raised. `traceback` is text without colours that begins at the user's own code."""

    name: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" if self.message else self.name


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Execution:
    """How code ended. `status`: ok, error (see `error`), interrupted, timeout, or context_ended (the interpreter died
    or was restarted under it; `limit_hit` says if a limit did that). `number` counts the executions of its context
    from 1. `state_kept` false: the context's variables are gone. `truncated`: there was more output than was kept;
    `lost_events`: how many events nobody could read."""

    id: str
    context_id: str
    status: ExecutionStatus
    number: int = 0
    stdout: str = ""
    stderr: str = ""
    results: list[Result] = field(default_factory=list)
    error: CodeFailure | None = None
    state_kept: bool = True
    limit_hit: LimitName | None = None
    wall_seconds: float = 0.0
    truncated: bool = False
    lost_events: int = 0

    @property
    def ok(self) -> bool:
        """Whether the code came to its end."""
        return self.status == "ok"

    @property
    def value(self) -> Result | None:
        """The last expression of the code, if it had one that is not None."""
        return next((result for result in reversed(self.results) if result.kind == "value"), None)

    @property
    def text(self) -> str | None:
        """The last expression as text, or None."""
        return self.value.text if self.value else None

    def raise_for_error(self) -> Execution:
        """This execution, or CodeFailedError unless its status is ok."""
        if not self.ok:
            raise CodeFailedError(self)
        return self

    def to_json(self) -> dict[str, Any]:
        """The object that `cloche code --json` prints."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("results", "error")}
        results = [{"kind": one.kind, "data": one.data, "metadata": one.metadata} for one in self.results]
        failure = self.error
        error = failure and {"name": failure.name, "message": failure.message, "traceback": failure.traceback}
        return {**plain, "text": self.text, "results": results, "error": error}

    def __repr__(self) -> str:
        said = str(self.error) if self.error else (self.text or self.stdout.rstrip("\n") or self.stderr.rstrip("\n"))
        return f"<Execution {self.status}{': ' + _shown(said) if said else ''}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """For notebooks: what was printed, the value or the traceback as text, and the last picture."""
        failure = self.error.traceback or str(self.error) if self.error else ""
        parts = (self.stdout, self.stderr, self.text or "", failure)
        pictures = [one._repr_mimebundle_() for one in self.results if one.png or one.jpeg]
        shown = {"text/plain": harmless("\n".join(part.rstrip("\n") for part in parts if part)) or repr(self)}
        return {**(pictures[-1] if pictures else {}), **shown}


class CodeFailedError(Exception):
    """`raise_for_error` found that the code did not come to its end: the code's failure, not Cloche's."""

    def __init__(self, execution: Execution) -> None:
        said = execution.error or execution.status.replace("_", " ")
        super().__init__(_CONTROL.sub("\ufffd", str(said))[:2000])
        self.execution = execution


def harmless(text: str) -> str:
    """Without the characters that a terminal or an editor acts on."""
    return _CONTROL.sub("\ufffd", text)


def mended(text: str) -> str:
    """Bytes of the sandbox that are not UTF-8 as U+FFFD; those of one character that came in two pieces, joined."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if not text.isascii() else text
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()


def _shown(text: str) -> str:
    short = text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"
    return repr(short)
