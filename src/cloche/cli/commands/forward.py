"""`cloche forward`."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from cloche.cli import arguments, execution, interrupts, render
from cloche.cli.failure import say
from cloche.model.errors import ClocheError, InvalidError, UnavailableError, WrongStateError
from cloche.model.lifecycle import LIVING
from cloche.sdk._sync.forwarding import Forward
from cloche.sdk._sync.sandbox import Sandbox

#: after which the same reason is told again
QUIET_SECONDS = 10.0
_REMEDY = "cloche forward BOX 8000  (or LOCAL:REMOTE, each a port or a path such as ./db.sock)"


@dataclass(frozen=True, slots=True)
class Line:
    """One [LOCAL:]REMOTE. Of each side either the port or the path of a unix socket is given; `local_port` 0: any."""

    port: int | None
    unix: str | None
    local_port: int
    local_unix: str | None
    is_fixed: bool

    @property
    def remote(self) -> str:
        return self.unix or str(self.port)


class Refusals:
    """Tells of connections that could not be made: programs try again and again, and once is enough of the same."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: tuple[str, float] | None = None

    def __call__(self, error: ClocheError) -> None:
        now = self._clock()
        if self._told is not None and self._told[0] == error.message and now - self._told[1] < QUIET_SECONDS:
            return
        self._told = (error.message, now)
        say(f"cloche: a connection was closed: {render.clean(error.message)}")
        if error.remedy:
            say(f"  try: {render.clean(error.remedy)}")


@click.command("forward")
@click.option("--unix", metavar="PATH", help="Listen on this unix socket; with one REMOTE.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDR", help="Where to listen for TCP.")
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("lines", nargs=-1, required=True, metavar="[LOCAL:]REMOTE…")
def command(unix: str | None, host: str, as_json: bool, box: str, lines: Sequence[str]) -> int:
    """Carry connections to local ports into a sandbox, until Ctrl-C.

    REMOTE is a port that something listens on inside, or the path of a unix socket there. LOCAL is a port of this
    machine or the path of a socket to make; without it, the port of the same number, or another if that is taken. The
    sandbox needs no network for this.

    \b
    cloche forward work 8000
    cloche forward work 9000:8000 5432
    cloche forward work 5432:/run/postgresql/.s.PGSQL.5432
    cloche forward work --unix ./app.sock 8000
    """
    wanted = [parse(line) for line in lines]
    if unix is not None:
        wanted = [_at_socket(wanted, unix)]
    sandbox = _running(execution.found(box))
    with interrupts.watched() as watch, contextlib.ExitStack() as open_ones:
        opened = [open_ones.enter_context(_forward(sandbox, line, host)) for line in wanted]
        _tell(wanted, opened, as_json)
        try:
            watch.interruptible(threading.Event().wait)
        except interrupts.Ended as ended:
            return 0 if ended.number == signal.SIGINT else ended.status
    return 0


def parse(text: str) -> Line:
    """Raises InvalidError."""
    local, _, remote = text.rpartition(":")
    port, unix = _side(remote, text)
    if not local:
        return Line(port, unix, port or 0, None, is_fixed=False)
    local_port, local_unix = _side(local, text)
    return Line(port, unix, local_port or 0, local_unix, is_fixed=True)


def _side(text: str, whole: str) -> tuple[int | None, str | None]:
    if "/" in text:
        return None, text
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text), None
    raise InvalidError(
        f"{whole!r} is not [LOCAL:]REMOTE: ports are 1 to 65535, a path has a /", field="remote", remedy=_REMEDY
    )


def _at_socket(lines: Sequence[Line], path: str) -> Line:
    if len(lines) != 1 or lines[0].is_fixed:
        raise InvalidError("--unix goes with one REMOTE and no LOCAL", field="unix", remedy=_REMEDY)
    return Line(lines[0].port, lines[0].unix, 0, path, is_fixed=True)


def _running(sandbox: Sandbox) -> Sandbox:
    """Raises WrongStateError: to listen for what cannot come is no help."""
    state = sandbox.known.state
    if state not in LIVING:
        box, begin = sandbox.name or sandbox.id, "resume" if state == "suspended" else "start"
        raise WrongStateError(
            f"cannot forward to {box}: it is {state}, not running", state=state, remedy=f"cloche {begin} {box}"
        )
    return sandbox


def _forward(sandbox: Sandbox, line: Line, host: str) -> Forward:
    forward = _begun(sandbox, line, host)

    forward.on_failure = Refusals()
    return forward


def _begun(sandbox: Sandbox, line: Line, host: str) -> Forward:
    try:
        return sandbox.forward(
            line.port, unix=line.unix, local_host=host, local_port=line.local_port, local_unix=line.local_unix
        )
    except UnavailableError as error:
        if not line.local_port:
            raise
        if line.is_fixed:
            remedy = f"cloche forward {sandbox.name or sandbox.id} {line.remote}  (takes a port that is free)"
            raise UnavailableError(error.message, remedy=remedy) from error
    return sandbox.forward(line.port, unix=line.unix, local_host=host)


def _tell(lines: Sequence[Line], opened: Sequence[Forward], as_json: bool) -> None:
    if as_json:
        found = [{"local": each.address, "remote": line.remote} for line, each in zip(lines, opened, strict=True)]
        render.print_json({"forwards": found})
        return
    for line, each in zip(lines, opened, strict=True):
        say(f"{render.clean(each.address)} → {render.clean(line.remote)}")
