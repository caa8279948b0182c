# Made from ../_async/contexts.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""Code contexts of a sandbox: interpreters that keep their state from one execution to the next."""

from __future__ import annotations

from types import TracebackType
from typing import Unpack

import msgspec

from cloche.model.code import ContextInfo, Language
from cloche.model.errors import NotFoundError
from cloche.sdk import wire
from cloche.sdk._sync import bridge
from cloche.sdk._sync.executions import CodeStream
from cloche.sdk._sync.transport import Transport
from cloche.sdk.code import Execution
from cloche.sdk.code_options import CodeOptions, ContextOptions, code_body, context_body
from cloche.sdk.values import MAX_OUTPUT_BYTES


class ContextList(msgspec.Struct, frozen=True, kw_only=True):
    """What the node says of all contexts of a sandbox. A newer one may know more languages than this client."""

    contexts: list[ContextInfo] = []
    languages: list[str] = []


class Context:
    """An interpreter in a sandbox. It lives on when this object is dropped; as a context manager it is removed."""

    def __init__(self, transport: Transport, sandbox: str, info: ContextInfo) -> None:
        self.info = info
        """What was last heard of it."""
        self._transport, self._sandbox = transport, sandbox
        self._path = f"{sandbox}/contexts/{wire.segment(info.id)}"

    @property
    def id(self) -> str:
        """What `Sandbox.contexts.get` finds it by."""
        return self.info.id

    @property
    def language(self) -> Language:
        """Of the code that it runs."""
        return self.info.language

    def run(
        self, code: str, *, on_stdout: bridge.TextCallback | None = None, on_stderr: bridge.TextCallback | None = None,
        on_result: bridge.ResultCallback | None = None, max_output_bytes: int = MAX_OUTPUT_BYTES,
        **options: Unpack[CodeOptions],
    ) -> Execution:  # fmt: skip
        """Run code in it to its end, as `Sandbox.run_code` does. Raises WrongStateError when it has ended."""
        stream = self.stream(code, **options)
        return stream.result(
            on_stdout=on_stdout, on_stderr=on_stderr, on_result=on_result, max_output_bytes=max_output_bytes
        )

    def stream(self, code: str, **options: Unpack[CodeOptions]) -> CodeStream:
        """Run code in it and iterate over its events, as `Sandbox.stream_code` does."""
        body = code_body(code, {"language": self.language, "context": self, **options})
        return CodeStream(self._transport, self._sandbox, body=body)

    def interrupt(self) -> None:
        """Interrupt what runs in it; its state stays. Raises WrongStateError when nothing runs."""
        self._transport.ask("POST", f"{self._path}/interrupt", json={})

    def restart(self) -> ContextInfo:
        """A new interpreter under the same id, without the old one's state. What runs in it ends with context_ended."""
        self.info = wire.decode(self._transport.ask("POST", f"{self._path}/restart", json={}), ContextInfo)
        return self.info

    def refresh(self) -> ContextInfo:
        """Ask again what is known of it."""
        self.info = wire.decode(self._transport.ask("GET", self._path), ContextInfo)
        return self.info

    def remove(self) -> None:
        """Kill it with every process that its code started."""
        self._transport.ask("DELETE", self._path)

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.remove()
        except NotFoundError:
            pass

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.language} {self.info.state}>"


#: inside the class `list` is its own method
_Contexts = list[Context]
_Languages = list[str]


class Contexts:
    """`Sandbox.contexts`: the code contexts of one sandbox."""

    def __init__(self, transport: Transport, sandbox_id: str) -> None:
        self._transport = transport
        self._sandbox = f"/v1/sandboxes/{wire.segment(sandbox_id)}"
        self._path = f"{self._sandbox}/contexts"

    def create(self, **context: Unpack[ContextOptions]) -> Context:
        """Start an interpreter and wait until it is ready. Options: `language` ("python", "javascript", "bash"), `cwd`,
        `env`, `user`. Raises InterpreterMissingError, LimitHitError (64 at once), InvalidError."""
        made = self._transport.ask("POST", self._path, json=context_body(context))
        return Context(self._transport, self._sandbox, wire.decode(made, ContextInfo))

    def get(self, context_id: str) -> Context:
        """Find one by its id or a unique beginning of it. Raises NotFoundError, InvalidError (ambiguous)."""
        found = self._transport.ask("GET", f"{self._path}/{wire.segment(context_id)}")
        return Context(self._transport, self._sandbox, wire.decode(found, ContextInfo))

    def list(self) -> _Contexts:
        """All of them, oldest first; `info` of each says whether it is idle, busy or has ended."""
        return [Context(self._transport, self._sandbox, info) for info in (self._known()).contexts]

    def languages(self) -> _Languages:
        """Those whose interpreter the image has."""
        return (self._known()).languages

    def _known(self) -> ContextList:
        return wire.decode(self._transport.ask("GET", self._path), ContextList)
