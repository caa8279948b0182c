"""The real command on a terminal of its own: what it shows is read until it is there, never waited for by time."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from types import TracebackType

from tests.integration.bad_luck import CLI
from tests.integration.node_harness import DEADLINE_SECONDS


class TerminalProgram:
    """`cloche ARGV` as the leader of a session on a new terminal. `seen` is all that it has shown."""

    def __init__(self, *argv: str, rows: int = 24, cols: int = 80, **environ: str | None) -> None:
        self.controller, self.terminal = pty.openpty()
        self.resize(rows, cols)
        self.before = termios.tcgetattr(self.terminal)
        self.seen = b""
        self._read = 0
        given = {"TERM": "xterm-256color", **environ}
        env = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
        for name, value in given.items():
            if value is None:
                env.pop(name, None)
        self.process = subprocess.Popen(
            [*CLI, *argv], stdin=self.terminal, stdout=self.terminal, stderr=self.terminal, env=env,
            start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip

    def __enter__(self) -> TerminalProgram:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.controller)
        os.close(self.terminal)

    def until(self, wanted: str | bytes) -> bytes:
        """Read until `wanted` has been shown since the last call → what came up to and with it."""
        text = wanted.encode() if isinstance(wanted, str) else wanted
        while (at := self.seen.find(text, self._read)) < 0:
            assert select.select([self.controller], [], [], DEADLINE_SECONDS)[0], f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.controller, 65536)
        begin, self._read = self._read, at + len(text)
        return self.seen[begin : self._read]

    def type(self, text: str | bytes) -> None:
        os.write(self.controller, text.encode() if isinstance(text, str) else text)

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end, reading on meanwhile so that it is not kept from writing → its status."""
        descriptor = os.pidfd_open(self.process.pid)
        try:
            while not self._step(descriptor):
                pass
        finally:
            os.close(descriptor)
        return self.process.wait(DEADLINE_SECONDS)

    def rest(self) -> bytes:
        """What has been shown and not been read, after its end."""
        while select.select([self.controller], [], [], 0)[0]:
            self.seen += os.read(self.controller, 65536)
        return self.seen[self._read :]

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal has the settings that it had before the program began."""
        return termios.tcgetattr(self.terminal) == self.before

    def _step(self, descriptor: int) -> bool:
        ready = select.select([self.controller, descriptor], [], [], DEADLINE_SECONDS)[0]
        assert ready, f"it does not end: {self.seen!r}"
        if self.controller in ready:
            self.seen += os.read(self.controller, 65536)
            return False
        return True


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
