"""What comes out of a sandbox is written to the host here, and all of it is taken for hostile.

Every step goes through directory descriptors and never through a link, names and links that lead out of the target
are refused, and nothing but plain permission bits survives. Blocking; the async half runs it in a thread.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from cloche.model.errors import (
    ClocheError,
    GuestError,
    InvalidError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
)
from cloche.sdk.values import CopyReport
from cloche.sdk.whole import PIECE_BYTES, Source, beside, pour, set_time

#: a longer extended header serves only to fill the memory of the one who reads it
MAX_HEADER_BYTES = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _RefusedError(Exception):
    """This entry does not reach the host."""


class Extraction:
    """Unpacks a tar stream at `target`, which is made if need be and may not itself be a link. `strip` names are taken
    off every entry's front."""

    def __init__(self, target: str, *, skip_refused: bool, strip: int = 0) -> None:
        self._target = target
        self._skip_refused = skip_refused
        self._strip = strip
        self._report = CopyReport()
        self._files: set[tuple[str, ...]] = set()
        self._directories: dict[tuple[str, ...], tarfile.TarInfo] = {}

    def run(self, source: Source) -> CopyReport:
        """Raises InvalidError at the first refused entry unless they are to be skipped, GuestError for what is no tar,
        NoSpaceError, PermissionDeniedError."""
        with _host_errors(self._target), ExitStack() as cleanup:
            os.makedirs(self._target, exist_ok=True)
            root = os.open(self._target, _DIRECTORY)
            cleanup.callback(os.close, root)
            for member, tar in _members(source):
                self._take(root, member, tar)
            self._finish(root)
        return self._report

    def _take(self, root: int, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        try:
            parts = _parts(member.name)[self._strip :]
            if parts:
                self._write(root, parts, member, tar)
            elif member.isdir():
                self._directories[()] = member
        except _RefusedError as refused:
            if not self._skip_refused:
                raise InvalidError(
                    f"refused {member.name!r} from the sandbox: {refused}", entry=member.name
                ) from refused
            self._report.refused.append((member.name, str(refused)))

    def _write(self, root: int, parts: tuple[str, ...], member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        with _directory(root, parts[:-1]) as parent:
            if member.isdir():
                _make_directory(parent, parts[-1])
                self._directories[parts] = member
                return
            if member.issym():
                _check_link(member.linkname, depth=len(parts) - 1)
                _make_room(parent, parts[-1])
                os.symlink(member.linkname, parts[-1], dir_fd=parent)
                with suppress(OverflowError, ValueError, OSError):
                    os.utime(parts[-1], (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
            elif member.islnk():
                self._hard_link(root, parent, parts, member)
            elif member.isreg():
                self._file(parent, parts, member, tar)
            else:
                raise _RefusedError("a device, pipe or something else that is no file, directory or link")
            self._report.files += 1

    def _file(self, parent: int, parts: tuple[str, ...], member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        content = tar.extractfile(member)
        assert content is not None
        _refuse_directory(parent, parts[-1])
        with beside(parts[-1], parent) as file:
            self._report.bytes += pour(content, file)
            os.fchmod(file.fileno(), member.mode & 0o777)
            set_time(file.fileno(), member.mtime)
        self._files.add(parts)

    def _hard_link(self, root: int, parent: int, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        origin = _parts(member.linkname)[self._strip :]
        if origin not in self._files:
            raise _RefusedError(f"a hard link to {member.linkname!r}, which is no file of this copy")
        _make_room(parent, parts[-1])
        with _directory(root, origin[:-1]) as folder:
            os.link(origin[-1], parts[-1], src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        self._files.add(parts)

    def _finish(self, root: int) -> None:
        # last, and deepest first: a directory without write permission could not be filled, and filling it is a change
        for parts, member in sorted(self._directories.items(), key=lambda each: -len(each[0])):
            with suppress(_RefusedError), _directory(root, parts) as folder:
                os.fchmod(folder, member.mode & 0o777)
                set_time(folder, member.mtime)


class Saving:
    """Writes one file at `target` as a whole: beside it first, then renamed over whatever is there."""

    def __init__(self, target: str, mode: int, modified_at: float | None = None) -> None:
        self._target = target
        self._mode = mode & 0o777
        self._modified_at = modified_at

    def run(self, source: Source) -> CopyReport:
        """Raises NotFoundError (the directory), NoSpaceError, PermissionDeniedError."""
        report = CopyReport(files=1)
        with _host_errors(self._target), beside(self._target) as file:
            report.bytes = pour(source, file)
            os.fchmod(file.fileno(), self._mode)
            if self._modified_at is not None:
                set_time(file.fileno(), self._modified_at)
        return report


class _Member(tarfile.TarInfo):
    """A header whose extensions are bounded."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in (tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE):
            raise GuestError("the sandbox sent a kind of tar entry that is not used")
        if self.size > MAX_HEADER_BYTES and (self.type in _EXTENDED or self.type not in tarfile.SUPPORTED_TYPES):
            raise GuestError(f"the sandbox sent a tar header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def _members(source: Source) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    try:
        with tarfile.open(  # type: ignore[call-overload]
            fileobj=source, mode="r|", tarinfo=_Member, errors="surrogateescape", bufsize=PIECE_BYTES
        ) as tar:
            for member in tar:
                yield member, tar
                tar.members.clear()
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise GuestError(f"the sandbox sent a broken tar stream: {error}") from error


def _parts(name: str) -> tuple[str, ...]:
    if name.startswith("/") or "\0" in name:
        raise _RefusedError("an absolute name")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise _RefusedError("a name that leads out of the target")
    return parts


def _check_link(target: str, depth: int) -> None:
    """A link may climb no higher than the target's top, and only by its first names: a `..` behind another name could
    be behind another link."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/") or not target or "\0" in target:
        raise _RefusedError(f"a link to the absolute path {target!r}")
    if climbs > depth or ".." in parts[climbs:]:
        raise _RefusedError(f"a link that leads out of the target: {target!r}")


@contextmanager
def _directory(root: int, parts: tuple[str, ...]) -> Iterator[int]:
    """A descriptor of the directory `parts` below `root`, made on the way, with no link followed."""
    here = os.dup(root)
    try:
        for part in parts:
            _make_directory(here, part)
            below = os.open(part, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _make_directory(parent: int, name: str) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise _RefusedError(f"{name!r} is in the way on the host and is no directory") from None


def _refuse_directory(parent: int, name: str) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise _RefusedError("a directory is in the way on the host")


def _make_room(parent: int, name: str) -> None:
    _refuse_directory(parent, name)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


@contextmanager
def _host_errors(target: str) -> Iterator[None]:
    try:
        yield
    except ClocheError:
        raise
    except PermissionError as error:
        raise PermissionDeniedError(f"cannot write {error.filename or target} on the host") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"no such directory on the host: {os.path.dirname(target) or target}") from error
    except OSError as error:
        kind = NoSpaceError if error.errno in (28, 122) else InvalidError
        raise kind(f"cannot write {target} on the host: {error.strerror}") from error
