"""`cloche code` at a terminal: cells are typed, run in one context, and shown."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloche.cli import execution, failure, interrupts, terminal
from cloche.cli.cellview import Shown
from cloche.cli.complete_code import is_whole
from cloche.cli.failure import say
from cloche.cli.gate import Gate
from cloche.cli.interrupts import Ended, Watch
from cloche.cli.render import clean
from cloche.model.code import LANGUAGES, Language
from cloche.model.errors import ClocheError, InvalidError, NodeUnreachableError, NotFoundError, SandboxDeadError
from cloche.sdk._sync.contexts import Context
from cloche.sdk._sync.executions import CodeStream
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.code import Execution

if TYPE_CHECKING:  # most sandboxes ask nothing
    from cloche.cli.asking import Asker, CellFace

HISTORY_LINES = 2000
MAX_HISTORY_BYTES = 1 << 20
_PROMPTS = {"python": (">>> ", "... "), "javascript": ("js> ", "... "), "bash": ("sh$ ", "... ")}
_SHORT = {"js": "javascript", "node": "javascript", "sh": "bash"}
_HELP = """\
Code is run when it is whole; a block of Python ends with an empty line. Ctrl-C interrupts what runs and keeps its
variables, or drops what is being typed; Ctrl-D leaves.
  :lang LANGUAGE   go on in python, javascript or bash; each keeps its own variables
  :restart         a new interpreter, without the variables
  :interrupt       interrupt what somebody else runs in this context
  :help, :quit"""
_FATAL = (SandboxDeadError, NodeUnreachableError, NotFoundError)


@dataclass
class Session:
    """Where cells run. `context` None: the default one of the language."""

    sandbox: Sandbox
    watch: Watch
    shown: Shown
    language: Language = "python"
    context: str | None = None
    timeout_seconds: float | None = None
    _face: CellFace | None = None
    _asker: Asker | None = None
    _told: str = ""
    _prompt: str = ""
    _is_typed: bool = False

    def run(self) -> int:
        """Until Ctrl-D or :quit → 0. Raises Ended, SandboxDeadError, NodeUnreachableError."""
        self._is_typed = True
        while True:
            with _history(self.language):
                line = self._read()
            if line is None or line.strip() in (":quit", ":q", ":exit"):
                return 0
            try:
                self._do(line)
            except _FATAL:
                raise
            except ClocheError as error:
                failure.report(error)

    def stream(self, code: str) -> CodeStream:
        return self.sandbox.stream_code(
            code, language=self.language, context=self.context, timeout_seconds=self.timeout_seconds
        )

    def _do(self, line: str) -> None:
        if not line.strip():
            return
        if line.startswith(":"):
            self._command(*line[1:].split())
            return
        stream = self.stream(line)
        with interrupts.told(lambda number: self._interrupt_cell(stream), (signal.SIGINT,)):
            self.cell(stream)

    def _interrupt_cell(self, stream: CodeStream) -> None:
        if self.shown.gate is not None:
            self.shown.gate.interrupt()
        stream.interrupt()

    def cell(self, stream: CodeStream) -> Execution:
        """Show it to its end; what the network policy asks meanwhile is asked here."""
        began = time.time()
        with self._asking(began) as gate:
            self.shown.gate = gate
            done = self.watch.interruptible(lambda: self.shown.cell(stream))
        if done.status == "error" and sys.stderr.isatty():
            self._tell_refused(began)
        return done

    def _say_above(self, text: str) -> None:
        """What comes while somebody types: what was typed stands below it again."""
        if not self._prompt:
            say(text)
            return
        clear = "\n" if terminal.is_dumb() else "\r\x1b[K"
        say(f"{clear}{text}\n{self._prompt}{_typed_so_far()}", end="")

    def _tell_refused(self, began: float) -> None:
        """The same once: a closed sandbox does not say when it tried what."""
        text = execution.told_refused(self.sandbox, began)
        if text and text != self._told:
            say(text)
        self._told = text or self._told

    def _asking(self, began: float) -> AbstractContextManager[Gate | None]:
        asks = execution.asks_of(self.sandbox, began, later=self._is_typed)
        if asks is None:
            return nullcontext()
        if self._asker is None:
            from cloche.cli import asking

            self._face = asking.CellFace(self._say_above)
            self._asker = asking.begin(asks, self._face)
        assert self._face is not None
        # what was denied in one cell may well be wanted in the next
        self._asker.forget()
        return self._face.during()

    def _read(self) -> str | None:
        """A whole piece of code; "" when it was given up, None at the end."""
        first, more = _PROMPTS[self.language]
        typed = ""
        while True:
            try:
                prompt = self._prompt = more if typed else first
                typed += self.watch.interruptible(lambda: input(prompt))  # noqa: B023
            except EOFError:
                say("")
                return None
            except (KeyboardInterrupt, Ended) as pressed:
                if getattr(pressed, "number", signal.SIGINT) != signal.SIGINT:
                    raise
                say("")
                return ""
            finally:
                self._prompt = ""
            if typed.startswith(":") or is_whole(self.language, typed):
                return typed
            typed += "\n"

    def _command(self, name: str = "help", *words: str) -> None:
        known = {"help": self._help, "lang": self._lang, "restart": self._restart, "interrupt": self._interrupt}
        action = known.get(name)
        if action is None:
            raise InvalidError(f"no command :{name}", remedy=":help")
        action(*words[:1])

    def _help(self, *words: str) -> None:
        say(_HELP)

    def _lang(self, *words: str) -> None:
        said = _SHORT.get(words[0], words[0]) if words else ""
        wanted = next((language for language in LANGUAGES if said and language.startswith(said)), None)
        if wanted is None:
            has = ", ".join(self.sandbox.contexts.languages())
            raise InvalidError(f"name a language; this sandbox has {clean(has)}", remedy=":lang python")
        self.language, self.context = wanted, None

    def _restart(self, *words: str) -> None:
        self._found().restart()
        say("cloche: a new interpreter; the variables are gone")

    def _interrupt(self, *words: str) -> None:
        self._found().interrupt()

    def _found(self) -> Context:
        if self.context is not None:
            return self.sandbox.contexts.get(self.context)
        for context in self.sandbox.contexts.list():
            if context.info.default and context.language == self.language and context.info.state != "ended":
                return context
        raise InvalidError(f"no {self.language} has run here yet")


@contextmanager
def _history(language: str) -> Iterator[None]:
    """What was typed before is there again, as far as it fits; nothing is said where that cannot be."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = _state_directory() / f"history-{language}"
    readline.set_auto_history(True)
    readline.clear_history()
    with suppress(OSError):
        if path.stat().st_size <= MAX_HISTORY_BYTES:
            readline.read_history_file(path)
    try:
        yield
    finally:
        readline.set_history_length(HISTORY_LINES)
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            readline.write_history_file(path)


def _typed_so_far() -> str:
    try:
        import readline
    except ImportError:
        return ""
    return readline.get_line_buffer()


def _state_directory() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "cloche"
