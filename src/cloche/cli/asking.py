"""Connections that wait for an answer, asked about at this terminal while a command runs.

On a terminal that belongs to the command the question has a screen of its own, and the command's is as it was
afterwards: the terminal itself puts it back, and a program that had that other screen already is told to draw again."""

from __future__ import annotations

import os
import queue
import select
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from cloche.cli import question, terminal
from cloche.cli.failure import say
from cloche.cli.gate import CTRL_C, Gate
from cloche.model.egress import Ask, Verdict
from cloche.model.errors import ClocheError
from cloche.sdk._sync.process import Process
from cloche.sdk._sync.sandbox import Sandbox

#: what is typed before anybody can have read the question is no answer to it
UNREAD_SECONDS = 0.5
_TO_END = "\x1b[K"
#: when the door does not say how long it waits
USUAL_SECONDS = 60.0


class Face(Protocol):
    """How somebody is asked. None: there was no answer, or nobody can give one here."""

    def ask(self, ask: Ask, box: str) -> Verdict | None: ...


@dataclass(frozen=True)
class Source:
    """Whose questions, and from which moment on (UTC seconds): one before the command began, as it may ask at once."""

    sandbox: Sandbox
    since: float


def begin(source: Source, face: Face) -> Asker:
    """Ask, in the background, whatever the policy of the sandbox asks."""
    asker = Asker(source.sandbox, face)
    threading.Thread(target=asker.run, args=(source.since,), daemon=True, name="cloche-asks").start()
    return asker


class Asker:
    """One question after the other. What was denied once is denied again without a question."""

    def __init__(self, sandbox: Sandbox, face: Face) -> None:
        self._sandbox = sandbox
        self._face = face
        self._denied: set[tuple[str, int, str]] = set()

    def forget(self) -> None:
        """Ask again about what was denied before."""
        self._denied.clear()

    def run(self, since: float) -> None:
        """Until the sandbox is gone."""
        with suppress(ClocheError):
            for ask in self._sandbox.new_asks(since=since):
                self.settle(ask)

    def settle(self, ask: Ask) -> None:
        """Ask, and tell the answer. Somebody may have answered elsewhere meanwhile."""
        if ask.expires_at and ask.expires_at <= time.time():
            return
        key = question.same(ask)
        box = self._sandbox.name or self._sandbox.id
        verdict: Verdict | None = "deny" if key in self._denied else self._face.ask(ask, box)
        if verdict == "deny":
            self._denied.add(key)
        if verdict is not None:
            with suppress(ClocheError):
                self._sandbox.answer(ask, verdict)


class Teller:
    """Nobody can answer here: says how it is done elsewhere."""

    def __init__(self, tell: Callable[[str], None] = say) -> None:
        self._tell = tell

    def ask(self, ask: Ask, box: str) -> Verdict | None:
        self._tell(question.told(ask, box))
        return None


class LineFace:
    """A terminal in its usual mode, from which the command reads nothing: a line on stderr, a line from stdin."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def ask(self, ask: Ask, box: str) -> Verdict | None:
        with self._gate.taken() as keys:
            if keys is None:
                return None
            with suppress(termios.error):
                termios.tcflush(0, termios.TCIFLUSH)
            if self._gate.is_in_line:
                say("")
            return self._answer(ask, keys, _deadline(ask))

    def _answer(self, ask: Ask, ended: queue.Queue[bytes], deadline: float) -> Verdict | None:
        say(question.line(ask), end="")
        while ended.empty():
            if time.time() >= deadline:
                say("no answer: denied")
                return None
            if select.select([0], [], [], 0.1)[0]:
                typed = os.read(0, 4096)
                found = question.verdict_of(typed.decode("utf-8", "replace"))
                if found is not None or not typed:
                    return found or "deny"
                say("o, a or d? ", end="")
        say("")
        # the command is told of the Ctrl-C as well, and shall not wait for this any more
        return "deny" if ended.get() == CTRL_C else None


class PanelFace:
    """A terminal that belongs to the command."""

    def __init__(self, gate: Gate, screen: terminal.ScreenWatch, process: Process) -> None:
        self._gate = gate
        self._screen = screen
        self._process = process

    def ask(self, ask: Ask, box: str) -> Verdict | None:
        with self._gate.taken() as keys:
            if keys is None:
                return None
            before, after = self._frame()
            _write(before + question.join(question.panel(ask, box, terminal.size().cols)))
            verdict = _typed(keys, _deadline(ask), _echo)
            _write(after)
        if self._screen.is_other:
            self._draw_again()
        return verdict

    def _frame(self) -> tuple[bytes, bytes]:
        """What makes room for a question, and what takes it away. A terminal that can do nothing just goes on."""
        if terminal.is_dumb():
            return b"\r\n", b"\r\n"
        clear = b"\x1b[0m\x1b[2J\x1b[H"
        return (clear, b"") if self._screen.is_other else (terminal.OTHER_SCREEN + clear, terminal.OWN_SCREEN)

    def _draw_again(self) -> None:
        """A program draws everything when its terminal changes its size."""
        now = terminal.size()
        with suppress(ClocheError, OSError):
            self._process.resize(max(1, now.rows - 1), now.cols)
            self._process.resize(now.rows, now.cols)


class CellFace:
    """For `cloche code`: a line while a cell runs. Between cells the terminal belongs to what is being typed, and
    `tell` says how to answer elsewhere."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._gate: Gate | None = None

    @contextmanager
    def during(self) -> Iterator[Gate]:
        """One cell, whose output passes by the gate."""
        gate = self._gate = Gate()
        try:
            yield gate
        finally:
            self._gate = None
            gate.close()

    def ask(self, ask: Ask, box: str) -> Verdict | None:
        gate = self._gate
        return (Teller(self._tell) if gate is None else face(gate, stdin=False)).ask(ask, box)


def face(gate: Gate, *, stdin: bool) -> Face:
    """For a command without a terminal of its own: a line where somebody can answer, and else how to do it. `stdin`:
    what is typed is the command's."""
    usable = not stdin and os.isatty(0) and sys.stderr.isatty()
    return LineFace(gate) if usable else Teller()


def _typed(keys: queue.Queue[bytes], deadline: float, echo: Callable[[str], None]) -> Verdict | None:
    line, readable = question.Typed(), time.monotonic() + UNREAD_SECONDS
    while (left := deadline - time.time()) > 0:
        try:
            piece = keys.get(timeout=left)
        except queue.Empty:
            return None
        if not piece:
            return None
        if time.monotonic() < readable:
            continue
        if (found := line.take(piece)) is not None:
            return found
        echo(line.text)
    return None


def _deadline(ask: Ask) -> float:
    return ask.expires_at or time.time() + USUAL_SECONDS


def _echo(text: str) -> None:
    _write(f"\r{'' if terminal.is_dumb() else _TO_END}> {text}".encode())


def _write(data: bytes) -> None:
    with suppress(OSError):
        os.write(1, data)
