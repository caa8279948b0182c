"""Code contexts: interpreters that keep their state between executions, and what one execution says.

Field for field the JSON of the guest's wire (guest/README.md, "Code contexts") and of the node's API."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from cloche.model.errors import InvalidError
from cloche.model.process import LimitName
from cloche.model.sandbox import check_env

Language = Literal["python", "javascript", "bash"]
LANGUAGES: tuple[Language, ...] = ("python", "javascript", "bash")
ContextState = Literal["starting", "idle", "busy", "ended"]
#: `died`: the interpreter ended by itself; `limit`: a limit ended it; `removed`, `restarted`: somebody asked
ContextEnd = Literal["died", "limit", "removed", "restarted", "timeout"]
ExecutionStatus = Literal["ok", "error", "interrupted", "timeout", "context_ended"]
OnDisconnect = Literal["keep", "interrupt"]
ResultKind = Literal["value", "display"]
MAX_CODE_BYTES = 8 << 20
#: one event as JSON; a result that would be larger comes without its largest representations, which are named
MAX_EVENT_BYTES = 16 << 20
MAX_CONTEXTS = 64


class ContextSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`user` None: the sandbox's user; `cwd` None: its working directory."""

    language: Language = "python"
    cwd: str | None = None
    env: dict[str, str] = {}
    user: str | None = None

    def check(self) -> None:
        """Raise InvalidError naming the field that is wrong."""
        check_env(self.env)
        if self.cwd is not None and ("\0" in self.cwd or not self.cwd):
            raise InvalidError("cwd may not be empty or contain NUL", field="cwd")


class ContextInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`default`: the one that code of this language runs in when no context is named. `executions` counts those that
    have begun since the last (re)start; `queued` those that wait."""

    id: str
    language: Language
    state: ContextState
    created_at: float
    pid: int = 0
    cwd: str = ""
    user: str = ""
    interpreter: str = ""
    version: str = ""
    default: bool = False
    executions: int = 0
    queued: int = 0
    execution_id: str | None = None
    end: ContextEnd | None = None
    limit_hit: LimitName | None = None


class CodeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`context_id` None: the default context of `language`, which is made when there is none. `timeout_seconds` counts
    from when the code begins: then it is interrupted, and killed with its context when it goes on.
    `on_disconnect`: what happens to it when the last reader of its events has gone before its end."""

    code: str
    language: Language = "python"
    context_id: str | None = None
    timeout_seconds: float | None = None
    on_disconnect: OnDisconnect = "keep"

    def check(self) -> None:
        """Raise InvalidError naming the field that is wrong."""
        if len(self.code.encode("utf-8", "surrogateescape")) > MAX_CODE_BYTES:
            raise InvalidError(f"code is larger than {MAX_CODE_BYTES} bytes", field="code")
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds <= 366 * 86400:
            raise InvalidError("timeout_seconds must be above 0 and at most a year", field="timeout_seconds")


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """Always the first event. `ahead`: how many executions of the context come before it."""

    seq: int
    execution_id: str
    context_id: str
    language: Language
    ahead: int = 0


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """`number` counts the executions of the context from 1; `at` UTC seconds."""

    seq: int
    number: int
    at: float


class CodeOutput(msgspec.Struct, frozen=True, kw_only=True, tag="output"):
    """What the code printed. Bytes that are not UTF-8 are lone surrogates, as everywhere on the wire."""

    seq: int
    stream: Literal["stdout", "stderr"]
    text: str


class CodeResult(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """A MIME bundle: type → text, base64 (images) or JSON (types that end in "json"). `value` is the last expression
    of the code, `display` what it showed on the way. `left_out`: representations that were too large."""

    seq: int
    kind: ResultKind
    data: dict[str, Any]
    metadata: dict[str, Any] = {}
    left_out: list[str] = []


class CodeError(msgspec.Struct, frozen=True, kw_only=True, tag="error"):
    """What the code raised. `traceback` is text without colours and begins at the user's own code."""

    seq: int
    name: str
    message: str
    traceback: str = ""


class CodeEnded(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """Always the last event. `state_kept` false: the context's variables are gone."""

    seq: int
    status: ExecutionStatus
    state_kept: bool = True
    wall_seconds: float = 0.0
    limit_hit: LimitName | None = None


class CodeGap(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """`lost_events` were overwritten before this reader came; `seq` is that of the last of them."""

    seq: int
    lost_events: int


class Keepalive(msgspec.Struct, frozen=True, kw_only=True, tag="keepalive"):
    """Every 15 s of silence; no part of the sequence."""


CodeEvent = Accepted | Started | CodeOutput | CodeResult | CodeError | CodeEnded | CodeGap | Keepalive
