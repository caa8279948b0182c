"""Builds one root image and tells of it on stdout: a process of its own, for it computes and copies for many seconds.

    python -m cloche.images.rootbuild HOME host
    python -m cloche.images.rootbuild HOME directory PATH

It prints one JSON object a line: `{"progress": [done, total]}` in bytes, then `{"image": …}` or `{"error": …}`. The
image gets its name last, when it is whole and on the disk; whatever was killed before leaves a `.partial` file, which
the next build removes. A lock lets one build at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cloche.images import erofs, host, hostparts, owners, tree
from cloche.model.errors import ClocheError, EngineError, InvalidError, NoSpaceError, UnavailableError

MAKE_AGAIN = 3
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LATEST = "host.latest.json"
MakeTree = Callable[[tree.LeftOut], tree.Node]


def store_of(home: Path) -> Path:
    return home / "images" / "erofs"


@contextlib.contextmanager
def locked(store: Path) -> Iterator[None]:
    """Nobody else writes here meanwhile. Waits for whoever does; the kernel ends a dead one's lock."""
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(store / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def existing(store: Path, key: str) -> dict[str, Any] | None:
    """What is written beside the image of this key, when the image is there and whole; else None."""
    image = store / f"{key}.erofs"
    try:
        about: dict[str, Any] = json.loads((store / f"{key}.json").read_bytes())
        return about if erofs.check(str(image), about["bytes"]) is None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build(store: Path, make: MakeTree, written: erofs.Written = lambda done, total: None) -> dict[str, Any]:
    """The image of this tree, from the store or new. Raises NoSpaceError, EngineError, and UnavailableError when the
    files never keep still."""
    for _ in range(MAKE_AGAIN):
        left = tree.LeftOut()
        root = make(left)
        key = tree.fingerprint(root)
        with locked(store):
            found = existing(store, key)
            if found is not None:
                return found
            remove_partial(store)
            with contextlib.suppress(erofs.ChangedError):
                return _write(store, key, root, left, written)
    raise UnavailableError(
        "files of the root change faster than they can be copied", remedy="try again when nothing is being installed"
    )


def remove_partial(store: Path) -> None:
    """What a build left that was killed. Only under the lock."""
    for path in store.glob("*.partial"):
        path.unlink(missing_ok=True)


def _write(store: Path, key: str, root: tree.Node, left: tree.LeftOut, written: erofs.Written) -> dict[str, Any]:
    made = erofs.plan(root)
    _check_room(store, made.bytes)
    about = {
        "key": key, "bytes": made.bytes, "files": len(made.nodes),
        "left_out_counts": left.counts, "left_out": left.paths,
    }  # fmt: skip
    partial = store / f"{key}.partial"
    try:
        with _no_space(store, made.bytes):
            _write_image(partial, key, root, made, written)
            _write_text(store, f"{key}.json", about)
        os.rename(partial, store / f"{key}.erofs")
    finally:
        partial.unlink(missing_ok=True)
    return about


def _write_image(path: Path, key: str, root: tree.Node, made: erofs.Plan, written: erofs.Written) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        erofs.write(fd, root, made, bytes.fromhex(key[:32]), written)
        os.fchmod(fd, 0o444)
        os.fsync(fd)
    finally:
        os.close(fd)
    wrong = erofs.check(str(path), made.bytes) or _fsck(path)
    if wrong is not None:
        raise EngineError(f"the root image was written wrongly: {wrong}", stage="root image")


def _fsck(path: Path) -> str | None:
    """A second opinion on the structure, where the program is there. It does not read contents: a second at most."""
    program = shutil.which("fsck.erofs")
    if program is None:
        return None
    done = subprocess.run([program, str(path)], capture_output=True, timeout=600)
    return (done.stderr or done.stdout).decode(errors="replace")[-500:] if done.returncode else None


def _write_text(store: Path, name: str, value: object) -> None:
    partial = store / f"{name}.partial"
    partial.write_text(json.dumps(value, indent=1))
    os.rename(partial, store / name)


def _check_room(store: Path, needed: int) -> None:
    if free_bytes(store) < needed:
        raise _full(store, needed)


def free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def _no_space(store: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _full(store, needed) from error


def _full(store: Path, needed: int) -> NoSpaceError:
    mib = -(-needed >> 20)
    return NoSpaceError(
        f"the root image needs {mib} MiB; {free_bytes(store) >> 20} MiB are free in {store}",
        remedy="free some space there, or set CLOCHE_HOME to a directory on a larger disk",
        needed_bytes=needed,
    )


def build_host(store: Path, written: erofs.Written) -> dict[str, Any]:
    """The machine's own root. The signs are read first: what changes later makes them differ at the next look."""
    survey = host.survey()
    signs = hostparts.signs(survey)
    about = build(store, lambda left: hostparts.host_tree(survey, left), written)
    with locked(store):
        _write_text(store, LATEST, {"signs": signs, "key": about["key"]})
    return about


def current_host(store: Path) -> dict[str, Any] | None:
    """The image that was built last, if by the signs of `hostparts.signs` the machine is still the same."""
    try:
        latest = json.loads((store / LATEST).read_bytes())
        key, signs = str(latest["key"]), latest["signs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    about = existing(store, key)
    return about if about is not None and signs == hostparts.signs(host.survey()) else None


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    def written(done: int, total: int) -> None:
        _say({"progress": [done, total]})

    try:
        store, kind, *rest = argv
        place = store_of(Path(store))
        if kind == "host":
            about = build_host(place, written)
        elif kind == "directory":
            about = build(place, lambda left: owners.directory_tree(Path(rest[0]), left), written)
        else:
            raise InvalidError(f"there is no root of kind {kind}")
    except ClocheError as error:
        _say(error.to_json())
        return 1
    except OSError as error:
        _say(EngineError(f"the root image cannot be built: {error}", stage="root image").to_json())
        return 1
    about["left_out"] = {}
    _say({"image": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
