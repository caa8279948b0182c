"""Find the node of a data directory, or start it. Standard library only: every command pays for this import."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from cloche.model.errors import NodeUnreachableError
from cloche.model.place import LOG_NAME, SOCKET_NAME, START_LOCK_NAME, home_from

START_SECONDS = 20.0
#: sun_path holds 108 bytes with its NUL
MAX_SOCKET_PATH = 107
READY_LINE_BYTES = 64 * 1024

_KEPT = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "USER",
        "LOGNAME",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "DBUS_SESSION_BUS_ADDRESS",
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONUSERBASE",
        "PYTHONNOUSERSITE",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPYCACHEPREFIX",
        "PYTHONUTF8",
        "PYTHONPLATLIBDIR",
    }
)
#: in either case of letters; for what the node itself fetches and lets through
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
_KEPT_PREFIXES = ("XDG_", "CLOCHE_", "LC_")
_NOBODY_LISTENS = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK})
_OTHER_HOME = "set CLOCHE_HOME to a writable directory of your own"
_aliases: dict[str, int] = {}
#: entered around the start of a node; a command line shows there that somebody waits
while_starting: Callable[[], AbstractContextManager[None]] = nullcontext


def default_home() -> Path:
    """The data directory that this process's environment names (CLOCHE_HOME, XDG_DATA_HOME, ~)."""
    return Path(home_from(os.environ, os.path.expanduser("~")))


def ensure_node(home: Path, *, start_seconds: float = START_SECONDS) -> Path:
    """The socket path of the node of `home`, started when none answers; ten callers at once start one.

    A path that is too long for a socket address comes back as a short alias that is valid in this process.
    Raises NodeUnreachableError with the node's own reason; `details["reason"]` is its code when it gave one."""
    home = Path(os.path.abspath(home))
    deadline = time.monotonic() + start_seconds
    if listens(home):
        return socket_path(home)
    _make_home(home)
    while not _listens_or_started(home, deadline):
        pass
    return socket_path(home)


def listens(home: Path) -> bool:
    """Whether something accepts connections on the socket of `home`. Raises NodeUnreachableError when that is
    somebody else's process: it would see everything that is sent."""
    if not home.is_dir():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(START_SECONDS)
            probe.connect(str(socket_path(home)))
        except OSError as error:
            if error.errno in _NOBODY_LISTENS:
                return False
            raise _cannot(home, f"{error.strerror or error}") from error
        _require_trusted(home, _peer(probe)[1])
        return True


def peer_pid(home: Path) -> int:
    """Who listens on the socket of `home`. Raises OSError when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(START_SECONDS)
        probe.connect(str(socket_path(home)))
        return _peer(probe)[0]


def socket_path(home: Path) -> Path:
    """A path of the node's socket that fits into a socket address."""
    path = home / SOCKET_NAME
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH or not home.is_dir():
        return path
    descriptor = _aliases.get(str(home))
    if descriptor is None or not _same_directory(descriptor, home):
        descriptor = _aliases[str(home)] = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return Path(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")


def node_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the client's environment the node may see; everything else could end up in a sandbox or a log."""
    kept = {name: value for name, value in environ.items()
            if name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.upper() in _PROXIES}  # fmt: skip
    python_path = [os.path.abspath(part) for part in kept.pop("PYTHONPATH", "").split(os.pathsep) if part]
    here = str(Path(__file__).resolve().parents[2])
    if os.path.basename(here) not in ("site-packages", "dist-packages") and here not in python_path:
        python_path.insert(0, here)
    if python_path:
        kept["PYTHONPATH"] = os.pathsep.join(python_path)
    return kept


def _listens_or_started(home: Path, deadline: float) -> bool:
    """One attempt under the start lock. False: another node held the directory but did not answer yet."""
    with _start_lock(home, deadline):
        return listens(home) or _spawn(home, deadline)


def _make_home(home: Path) -> None:
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        owner = home.stat().st_uid
    except OSError as error:
        raise _cannot(home, f"cannot make it: {error.strerror}", remedy=_OTHER_HOME) from error
    if owner != os.geteuid():
        raise _cannot(home, f"it belongs to uid {owner}, not {os.geteuid()}", remedy=_OTHER_HOME)


@contextmanager
def _start_lock(home: Path, deadline: float) -> Iterator[None]:
    try:
        lock = os.open(home / START_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _cannot(home, f"cannot lock it: {error.strerror}") from error
    try:
        _take(lock, home, deadline)
        yield
    finally:
        os.close(lock)


def _take(lock: int, home: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _cannot(home, "another client is still starting it") from None
            time.sleep(0.01)


def _spawn(home: Path, deadline: float) -> bool:
    readable, writable = os.pipe()
    try:
        _start_detached(home, writable)
        os.close(writable)
        writable = -1
        with while_starting():
            line = _read_line(readable, deadline)
    finally:
        os.close(readable)
        if writable >= 0:
            os.close(writable)
    return _judge(home, line, deadline)


def _start_detached(home: Path, ready: int) -> None:
    import subprocess

    command = [
        sys.executable or "python3",
        "-P",
        "-m",
        "cloche.node",
        "--detach",
        "--home",
        str(home),
        "--ready-fd",
        str(ready),
    ]
    try:
        log = os.open(home / LOG_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(log, "wb", buffering=0) as stderr:
            # `--detach` forks once more, so this wait is short and no zombie is left with the client
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd="/",
                env=node_environment(os.environ),
                pass_fds=(ready,),
                start_new_session=True,
                check=False,
            )
    except OSError as error:
        raise _cannot(home, f"cannot start {command[0]}: {error.strerror}") from error


def _read_line(readable: int, deadline: float) -> bytes:
    """One line, or what came before the end or the deadline."""
    line = b""
    while not line.endswith(b"\n") and len(line) < READY_LINE_BYTES:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([readable], [], [], left)[0]:
            break
        part = os.read(readable, READY_LINE_BYTES)
        if not part:
            break
        line += part
    return line


def _judge(home: Path, line: bytes, deadline: float) -> bool:
    try:
        said = json.loads(line) if line else {}
    except ValueError:
        said = {}
    if said.get("ready"):
        return True
    reason = said.get("error", {})
    if reason.get("code") == "already_exists" and time.monotonic() < deadline:
        return False
    what = reason.get("message") or _silence(home, deadline)
    raise _cannot(home, what, remedy=reason.get("remedy"), **({"reason": reason["code"]} if reason.get("code") else {}))


def _silence(home: Path, deadline: float) -> str:
    how = "it ended before it was ready" if time.monotonic() < deadline else "it was not ready in time"
    return f"{how}; the last line of {LOG_NAME}: {_last_line(home / LOG_NAME) or 'none'}"


def _last_line(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            return file.read().decode("utf-8", "replace").rstrip().rpartition("\n")[2]
    except OSError:
        return ""


def _peer(connected: socket.socket) -> tuple[int, int]:
    """Process and user id of who listens."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def _require_trusted(home: Path, uid: int) -> None:
    if uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise _cannot(home, f"uid {uid} listens on its socket", remedy=_OTHER_HOME)


def _same_directory(descriptor: int, home: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), home.stat())
    except OSError:
        return False


def _cannot(home: Path, why: str, *, remedy: str | None = None, **details: object) -> NodeUnreachableError:
    return NodeUnreachableError(f"no node for {home}: {why}", remedy=remedy, **details)
