"""How a failure is told: what and why, then what mends it; a traceback only with CLOCHE_DEBUG=1."""

from __future__ import annotations

import errno
import os
import sys
import traceback

import click

from cloche.cli.render import clean
from cloche.model.errors import ClocheError

FAILED = ClocheError.exit_status
#: what the node calls the field that it refuses → the flag that sets it, with a value that is allowed
_FLAGS = {
    "limits.memory_mib": "--memory 512m",
    "limits.cpus": "--cpus 1",
    "limits.pids": "--pids 256",
    "limits.disk_mib": "--disk 1g",
    "egress": "a policy is words such as pypi,api.example.com (cloche policy --help)",
    "ttl_seconds": "--ttl 1h (at most a year)",
    "idle_timeout_seconds": "--idle-timeout 10m (at most a year)",
    "timeout_seconds": "--timeout 30s",
}
#: a stream that is closed, full or gone
_UNWRITABLE = (errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


def say(text: str, end: str = "\n") -> None:
    """A line to stderr; nobody reading it is no failure."""
    try:
        sys.stderr.write(text + end)
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def report(error: Exception) -> int:
    """Tell of `error` on stderr → the exit status."""
    if os.environ.get("CLOCHE_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, ClocheError):
        remedy = error.remedy or _remedy(str(error.details.get("field")))
        return _tell(error.message, remedy, error.exit_status)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(error.message)
        return FAILED
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        remedy = f"{context.command_path if context is not None else 'cloche COMMAND'} --help"
        return _tell(" ".join(error.format_message().split()), remedy, FAILED)
    if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
        return _tell(f"cannot write the output: {error.strerror}", None, FAILED)
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _tell(f"unexpected failure: {message}", "CLOCHE_DEBUG=1 shows where", FAILED)


def _remedy(field: str) -> str | None:
    """Of a field without a remedy of its own."""
    if field.endswith(".preset"):
        return "cloche policy presets  (lists them; a host has a dot or a port: api.example.com, db:5432)"
    return _FLAGS.get("egress" if field.startswith(("egress", "rule")) else field)


def _tell(message: str, remedy: str | None, status: int) -> int:
    say(f"cloche: {clean(message)}")
    if remedy:
        say(f"  try: {clean(remedy)}")
    return status
