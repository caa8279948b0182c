"""Where the node reads the values of secrets from: a file, the machine's keyring, or a command's output.

No error, log line or repr here has a value in it, nor what a command wrote to its standard error: tools print tokens
there too."""

from __future__ import annotations

import logging
import os
import select
import signal
import stat
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import IO

from cloche.egress.secrecy.lone_thread import alone
from cloche.model.egress import SecretSource
from cloche.model.errors import InvalidError, UnavailableError

MAX_VALUE_BYTES = 64 << 10
TIMEOUT_SECONDS = 10.0

log = logging.getLogger(__name__)

#: what mends it
READER = "the node reads it itself, as the user that runs it; or give it from your shell: export {name}=…, {name}@HOST"
OTHERWISE = "take it from a file or a command: {name}=file:/path@HOST, {name}=cmd:COMMAND@HOST"


class SecretUnreadableError(UnavailableError):
    """The value of a secret cannot be read now; `details["secret"]` names the secret."""


async def read_secret(name: str, source: SecretSource) -> str:
    """The value, without the newline at its end. Raises SecretUnreadableError, which never contains it, and
    InvalidError when the source names nothing to read or the value cannot stand in a header."""
    try:
        data = await _read(name, source)
    except TimeoutError:
        raise _unreadable(name, f"nothing came in {TIMEOUT_SECONDS:.0f} s") from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise _unreadable(name, f"{place}{error.strerror or type(error).__name__}") from None
    return checked_value(name, data)


def checked_value(name: str, data: bytes | str) -> str:
    """What every value must be, also one that a client gives: text, not empty, at most 64 KiB, and without characters
    that would end a header. Raises InvalidError."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not data or len(data) > MAX_VALUE_BYTES:
        raise _invalid(name, "is empty" if not data else f"has more than {MAX_VALUE_BYTES} bytes")
    if any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in data):
        raise _invalid(name, "has line breaks or other control characters, which no header can carry")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid(name, "is no text in UTF-8") from None


async def _read(name: str, source: SecretSource) -> bytes | str:
    if source.file is not None:
        # the file system may be somewhere else
        return await alone(partial(_from_file, name, Path(source.file).expanduser()), TIMEOUT_SECONDS)
    if source.keyring is not None:
        # a keyring may ask somebody for a password
        return await alone(partial(_from_keyring, name, source.keyring), TIMEOUT_SECONDS)
    if source.command:
        return await alone(partial(_from_command, name, source.command), TIMEOUT_SECONDS + 1)
    raise InvalidError(f"the secret {name} says nothing to read its value from", field="secrets", secret=name)


def _from_file(name: str, path: Path) -> bytes:
    """Never waits: a pipe or a device is refused."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _unreadable(name, f"{path} is no file")
        if mode & 0o077:
            log.warning("%s, which has the value of the secret %s, can be read by others: chmod 600 it", path, name)
        return file.read(MAX_VALUE_BYTES + 3)


def _from_keyring(name: str, entry: str) -> str:
    service, _, user = entry.rpartition("/")
    try:
        import keyring

        value = keyring.get_password(service, user)
    except Exception as error:
        # backends raise what they like, and some say more than they should
        raise _unreadable(name, f"the keyring cannot be used ({type(error).__name__})", OTHERWISE) from None
    if value is None:
        raise _unreadable(name, f"the keyring has no entry {entry}")
    return value


def _from_command(name: str, argv: list[str]) -> bytes:
    """Blocks. Nothing of its group is left when it has failed, whatever it does with its output."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            return _output(name, process, process.stdout, time.monotonic() + TIMEOUT_SECONDS)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _output(name: str, process: subprocess.Popen[bytes], stdout: IO[bytes], deadline: float) -> bytes:
    data = bytearray()
    while piece := _piece(stdout.fileno(), deadline):
        data += piece
        if len(data) > MAX_VALUE_BYTES + 2:
            raise _invalid(name, f"has more than {MAX_VALUE_BYTES} bytes")
    try:
        status = process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    if status:
        raise _unreadable(name, f"its command ended with status {status}")
    return bytes(data)


def _piece(descriptor: int, deadline: float) -> bytes:
    """b"" at the end. Raises TimeoutError."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        raise TimeoutError
    return os.read(descriptor, MAX_VALUE_BYTES)


def _unreadable(name: str, why: str, remedy: str = READER) -> SecretUnreadableError:
    return SecretUnreadableError(
        f"the value of the secret {name} cannot be read: {why}", remedy=remedy.format(name=name), secret=name
    )


def _invalid(name: str, what: str) -> InvalidError:
    return InvalidError(f"the value of the secret {name} {what}", field="secrets", secret=name)
