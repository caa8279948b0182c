"""Scratch disks of virtual machines: sparse raw files with an empty ext4 on them, and copies that keep the holes.

A blank is formatted once for each size and kept in `HOME/vm/blank/`; a machine's own disk is a copy of what little is
on it (some 100 KiB). What the file system is made of, and why:

- no journal: each change would be written twice, and 4 MiB or more of it copied with each capture. A disk that is
  captured goes with the memory that knows what is not on it yet; a stop unmounts. Only a machine that is killed may
  leave a disk that a journal would have mended.
- all inode tables are marked as zeroed, which they are in a sparse file: else the kernel writes them (16 MiB for each
  GiB) in the background of the machine's first minute. `mke2fs` marks them when it could discard everything first.
- an inode for each 8 KiB: 131,072 in the 1 GiB that a sandbox has by default, enough for what npm installs.
- checksums of group descriptors only, no reserved blocks, no spare superblocks: nobody mends a scratch disk.
- all times, ids and the hash seed are fixed: a size has one blank, here and everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cloche.images import sparse
from cloche.images.copying import copy_range
from cloche.model.errors import EngineError, InvalidError, NoSpaceError, UnavailableError

LARGEST_MIB = 1_000_000
FICLONE = 0x40049409
FEATURES = (
    "none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super2,large_file,huge_file,dir_nlink,extra_isize,uninit_bg"
)
UUID = "c10c4e00-0000-4000-8000-000000000001"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def format_command(program: str, path: str) -> list[str]:
    """What puts the file system on a sparse file. No default of the machine's own mke2fs.conf is left to chance."""
    extended = f"root_owner=0:0,lazy_itable_init=0,discard,num_backup_sb=0,hash_seed={UUID}"
    sizes = ["-b", "4096", "-I", "256", "-i", "8192", "-m", "0"]
    return [
        program,
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        FEATURES,
        *sizes,
        "-L",
        "scratch",
        "-U",
        UUID,
        "-E",
        extended,
        path,
    ]


def blank_name(disk_mib: int) -> str:
    """The name says how it was formatted, so that another version of Cloche makes its own."""
    made = "\0".join(format_command("mke2fs", "")).encode()
    return f"{disk_mib}-{hashlib.sha256(made).hexdigest()[:12]}.img"


async def blank_disk(home: Path, disk_mib: int) -> Path:
    """An empty disk of this size, to be copied and never written to. Raises InvalidError, UnavailableError without
    mke2fs, NoSpaceError, EngineError."""
    if not 1 <= disk_mib <= LARGEST_MIB:
        raise InvalidError(f"a disk has 1 to {LARGEST_MIB} MiB, not {disk_mib}", field="disk_mib")
    path = home / "vm" / "blank" / blank_name(disk_mib)
    if not path.exists():
        await asyncio.to_thread(_make_blank, path, disk_mib)
    return path


def _make_blank(path: Path, disk_mib: int) -> None:
    """One at a time; the name comes last, and what somebody left who was killed goes first."""
    program = mke2fs()
    with _no_space(path, 1 << 20), _locked(path.parent):
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        if path.exists():
            return
        try:
            with partial.open("xb") as file:
                file.truncate(disk_mib << 20)
            _format(program, str(partial))
            partial.chmod(0o400)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def mke2fs() -> str:
    """Where the program is; an ordinary user's PATH often lacks the place of it."""
    found = shutil.which("mke2fs") or shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise UnavailableError(
            "mke2fs, which formats the disk of a machine, is missing", remedy="apt-get install e2fsprogs"
        )
    return found


def _format(program: str, path: str) -> None:
    fixed = {"MKE2FS_CONFIG": os.devnull, "E2FSPROGS_FAKE_TIME": "1", "LC_ALL": "C"}
    done = subprocess.run(
        format_command(program, path), env=fixed, stdin=subprocess.DEVNULL, capture_output=True, timeout=300
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        if "No space left" in said or "File too large" in said:
            raise OSError(errno.ENOSPC, said)
        raise EngineError(f"mke2fs ended with status {done.returncode}: {said}", stage="scratch disk")


def copy_disk(source: Path, target: Path) -> int:
    """A copy with the same holes, in a new file (0600). Returns the bytes that are not holes; with a file system that
    can, none of them was copied. Blocks. Raises NoSpaceError, and OSError for a target that is there already; then
    nothing is left of the copy."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with _no_space(target, os.fstat(reading).st_blocks * 512):
                return _copy(reading, writing)
        except BaseException:
            Path(target).unlink(missing_ok=True)
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy(reading: int, writing: int) -> int:
    size = os.fstat(reading).st_size
    shared = _cloned(reading, writing)
    if not shared:
        os.ftruncate(writing, size)
    count = 0
    for start, end in sparse.parts(reading, size):
        if not shared:
            copy_range(reading, writing, end - start, start, start)
        count += end - start
    return count


def _cloned(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, FICLONE, reading)
    except OSError as error:
        if error.errno in FULL:
            raise
        return False
    return True


@contextlib.contextmanager
def _no_space(path: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise NoSpaceError(
            f"there is no room for a disk of {-(-needed >> 20)} MiB in {path.parent}",
            remedy="free some space there, or set CLOCHE_HOME to a directory on a larger disk",
            needed_bytes=needed,
        ) from error
