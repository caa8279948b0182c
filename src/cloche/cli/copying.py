"""Where a copy ends up, and how it gets there: the rules of `cp -r` between a host and a sandbox."""

from __future__ import annotations

import os
import posixpath
import stat

from cloche.cli import attach
from cloche.cli.progress import Meter, shown
from cloche.model.errors import InvalidError, NotFoundError, PermissionDeniedError
from cloche.model.file import FileInfo
from cloche.sdk import pack, untar
from cloche.sdk._sync import bridge
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import CopyReport


def pack_out(sandbox: Sandbox, path: str) -> CopyReport:
    """A tree of the sandbox as a tar stream on stdout. Raises InvalidError when that is a terminal."""
    if os.isatty(1):
        raise InvalidError("a tar stream would only garble the terminal", remedy="cloche cp BOX:PATH - | tar t")
    meter = Meter(path)
    with shown(lambda: str(meter)):
        for chunk in meter.counted(sandbox.files.get_tar(path or ".")):
            attach.write_all(1, chunk)
    return CopyReport()


def unpack_in(sandbox: Sandbox, path: str) -> CopyReport:
    """A tar stream on stdin, unpacked below `path`. Raises InvalidError when that is a terminal."""
    if os.isatty(0):
        raise InvalidError(
            "`-` reads a tar stream from stdin, and that is a terminal", remedy="tar c DIR | cloche cp - BOX:PATH"
        )
    meter = Meter(path)
    with shown(lambda: str(meter)):
        made = sandbox.files.put_tar(path or ".", meter.counted(attach.read_stdin()))
    return CopyReport(files=made.files, bytes=made.bytes)


def copy_in(sandbox: Sandbox, source: str, path: str) -> CopyReport:
    """A file or a tree of the host. Raises NotFoundError, InvalidError, and what the SDK's files do."""
    if not os.path.lexists(source):
        raise NotFoundError(f"no such file on the host: {source}")
    origin = os.path.realpath(source)
    is_tree = os.path.isdir(origin)
    contents = is_tree and _is_contents(source)
    into = _place_inside(sandbox, path or ".", os.path.basename(os.path.abspath(source)), contents, is_tree)
    report = CopyReport()
    meter = Meter(source, None if is_tree else os.path.getsize(origin))
    folder, name = (into, "") if contents else (posixpath.dirname(into) or ".", posixpath.basename(into))
    stream = pack.tree(origin, report, name) if is_tree else pack.single(origin, name, report)
    try:
        with shown(lambda: str(meter)):
            sandbox.files.put_tar(folder, meter.counted(stream))
    except PermissionDeniedError as error:
        # it names what could not be made, which may be far above what was asked for
        raise PermissionDeniedError(
            f"cannot copy to {path}: {error.message}", remedy="cloche cp SRC BOX:  (its home), or another directory"
        ) from error
    return report


def copy_out(sandbox: Sandbox, path: str, target: str) -> CopyReport:
    """A file or a tree of the sandbox, which is taken for hostile. Raises as `copy_in` does."""
    info = sandbox.files.stat(path or ".", follow=True)
    is_tree = info.type == "directory"
    if not is_tree and info.type != "file":
        raise InvalidError(f"{path} is a {info.type}: only files and directories can be copied")
    place = _place_outside(target, info, is_tree and _is_contents(path), is_tree)
    meter = Meter(path, None if is_tree else info.size)
    with shown(lambda: str(meter)):
        if is_tree:
            # a link that was asked for by its own name is meant; one that lies in the directory is not
            root = os.path.realpath(place) if place == target else place
            extraction = untar.Extraction(root, skip_refused=True, strip=1)
            return bridge.consume(extraction.run, meter.counted(sandbox.files.get_tar(path or ".")))
        return _save(sandbox, path, place, info, meter)


def _save(sandbox: Sandbox, path: str, place: str, info: FileInfo, meter: Meter) -> CopyReport:
    content = meter.counted(sandbox.files.read_stream(path))
    if _is_special(place):
        # a device or a pipe takes the bytes; it must not be replaced by a file
        with open(place, "wb", buffering=0) as file:
            for piece in content:
                attach.write_all(file.fileno(), piece)
        return CopyReport(files=1, bytes=info.size)
    # a link at the name is replaced: a sandbox that shares the directory may have put it there
    saved = untar.Saving(place, info.mode, info.modified_at)
    return bridge.consume(saved.run, content)


def _place_inside(sandbox: Sandbox, path: str, name: str, contents: bool, is_tree: bool) -> str:
    try:
        found = sandbox.files.stat(path, follow=True).type
    except NotFoundError:
        if path.endswith("/") and not is_tree:
            raise NotFoundError(f"no such directory in the sandbox: {path}") from None
        return path.rstrip("/")
    if found == "directory":
        return path if contents else posixpath.join(path, name)
    if is_tree:
        raise InvalidError(f"{path} is a {found}: a directory cannot take its place")
    return path


def _place_outside(target: str, info: FileInfo, contents: bool, is_tree: bool) -> str:
    if os.path.isdir(target):
        return target if contents else os.path.join(target, _own_name(info))
    if target.endswith("/") and not is_tree:
        raise NotFoundError(f"no such directory on the host: {target}")
    if is_tree and os.path.lexists(target):
        raise InvalidError(f"{target} is no directory: a directory cannot take its place")
    return target


def _own_name(info: FileInfo) -> str:
    name = posixpath.basename(info.path.rstrip("/"))
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise InvalidError(f"{info.path} has no name of its own", remedy="name the target")
    return name


def _is_contents(path: str) -> bool:
    """`DIR/.` is what is in the directory, as for cp."""
    return path == "." or path.endswith("/.")


def _is_special(place: str) -> bool:
    """A device, a pipe or a socket by its own name; links are followed where only the system makes them."""
    try:
        found = os.stat(place, follow_symlinks=os.path.dirname(os.path.abspath(place)) == "/dev")
    except OSError:
        return False
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode))
