"""Ordinary users for the suite: made when it runs as root, and gone with all that is theirs when it ends.

The interpreter and the checkout often lie where only root may walk (a 0700 directory on the way). What such a user
runs therefore starts in a mount namespace of its own, in which every closed directory on the way is covered by an open
one that holds nothing but the places that are needed. The machine itself is not changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: name → whether it has ids of its own in /etc/subuid
NAMES = {"cloche-test": True, "cloche-test1": False}
FIRST_SUBID, SUBIDS = 1_700_000_000, 1 << 16  # ids that distributions leave free
#: tests that run side by side have users of their own: "gw1" and so on, nothing for tests that run alone
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
ACCOUNTS_LOCK = Path(tempfile.gettempdir()) / "cloche-test-accounts.lock"
PATIENCE_SECONDS = 20.0

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18


@dataclass(frozen=True)
class OrdinaryUser:
    name: str
    uid: int
    gid: int
    home: Path

    def command(self, argv: Sequence[str]) -> list[str]:
        """What root runs so that this user runs `argv`."""
        return [sys.executable, "-I", str(Path(__file__)), self.name, *argv]

    def run(self, argv: Sequence[str], timeout_seconds: float = 300.0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run to the end. Of the caller's environment only PATH and LANG are passed."""
        return subprocess.run(
            self.command(argv), env=self.environment() | env, cwd="/", stdin=subprocess.DEVNULL, text=True,
            capture_output=True, timeout=timeout_seconds, errors="surrogateescape",
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home), "USER": self.name, "LOGNAME": self.name, "TMPDIR": str(self.home),
            "PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        }  # fmt: skip


def as_user(user: OrdinaryUser, code_or_argv: str | Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python code (a string) or a command (a sequence) as that user."""
    argv = [sys.executable, "-c", code_or_argv] if isinstance(code_or_argv, str) else list(code_or_argv)
    return user.run(argv, **env)


@contextlib.contextmanager
def made(name: str) -> Iterator[OrdinaryUser]:
    """The user of this kind, for a while. Needs root."""
    account = name + WORKER
    remove(account)
    try:
        with _accounts():
            subprocess.run(
                ["useradd", "--create-home", "--shell", "/bin/bash", account], check=True, capture_output=True
            )
            _set_subids(account, NAMES[name])
        entry = pwd.getpwnam(account)
        yield OrdinaryUser(account, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))
    finally:
        remove(account)


@contextlib.contextmanager
def _accounts() -> Iterator[None]:
    """Nobody else of the suite changes the machine's lists of users meanwhile."""
    with ACCOUNTS_LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _set_subids(name: str, wanted: bool) -> None:
    """useradd may hand out ranges by itself; here exactly the users that need one have one."""
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("".join(f"{line}\n" for line in lines if not line.startswith(f"{name}:")))
    if wanted:
        first = FIRST_SUBID + SUBIDS * int(WORKER.removeprefix("gw") or 0)
        own = f"{first}-{first + SUBIDS - 1}"
        ranges = ["--add-subuids", own, "--add-subgids", own]
        subprocess.run(["usermod", *ranges, name], check=True, capture_output=True)


def remove(name: str) -> None:
    """The user, its processes, home and ids. Nothing happens when there is no such user."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return
    _end_processes(entry.pw_uid)
    with _accounts():
        _set_subids(name, False)
        subprocess.run(["userdel", "--force", "--remove", name], capture_output=True)
    shutil.rmtree(entry.pw_dir, ignore_errors=True)


def _end_processes(uid: int) -> None:
    """By descriptor, so that no process is hit that took over a pid meanwhile."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while found := processes_of(uid):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                try:
                    if owner(pid) == uid:
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes of uid {uid} do not end: {found}")


def processes_of(uid: int) -> list[int]:
    """Pids of that user, but zombies, which hold nothing any more."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and owner(int(name)) == uid]


def owner(pid: int) -> int | None:
    """The real uid of a process that lives, else None."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return None if fields["State"].strip().startswith("Z") else int(fields["Uid"].split()[0])


def needed_places() -> list[str]:
    """Directories without which the tests cannot run."""
    found = {sys.prefix, sys.base_prefix, str(Path(sys.executable).parent), os.path.realpath(sys.executable), str(ROOT)}
    places = {os.path.dirname(place) if os.path.isfile(place) else place for place in found}
    return sorted(place for place in places if not place.startswith("/usr/"))


def closed_ancestor(place: str) -> str | None:
    """The outermost directory on the way that others may not walk through."""
    for parent in [*reversed(Path(place).parents), Path(place)]:
        if not parent.stat().st_mode & 0o001:
            return str(parent)
    return None


def enter(name: str, argv: Sequence[str]) -> None:
    """Become the user and execute `argv`. Runs as root in a process of its own; does not return."""
    entry = pwd.getpwnam(name)
    libc = ctypes.CDLL(None, use_errno=True)
    _must(libc.unshare(CLONE_NEWNS))
    _mount(libc, "none", "/", None, MS_REC | MS_PRIVATE)
    open_ways(libc, needed_places())
    os.chdir(entry.pw_dir)
    os.setgroups([entry.pw_gid])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.execvp(argv[0], list(argv))


def open_ways(libc: ctypes.CDLL, places: Sequence[str]) -> None:
    """Cover each closed directory by an open one that holds only the needed places below it."""
    closed = {place: ancestor for place in places if (ancestor := closed_ancestor(place))}
    held = {place: os.open(place, os.O_PATH | os.O_DIRECTORY) for place in closed}
    for ancestor in sorted(set(closed.values())):
        _mount(libc, "tmpfs", ancestor, "tmpfs", 0, "mode=755,size=1m")
    for place, fd in sorted(held.items()):
        os.makedirs(place, 0o755, exist_ok=True)
        _mount(libc, f"/proc/self/fd/{fd}", place, None, MS_BIND | MS_REC)
        os.close(fd)


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    names = [part.encode() if part is not None else None for part in (source, target, kind)]
    _must(libc.mount(*names, ctypes.c_ulong(flags), data.encode()), target)


def _must(result: int, about: str = "") -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), about)


if __name__ == "__main__":
    enter(sys.argv[1], sys.argv[2:])
