"""read_file, write_file, list_files."""

from __future__ import annotations

import base64
import binascii
from contextlib import aclosing
from typing import Annotated, Literal

import msgspec

from cloche.mcp import bounds, images
from cloche.mcp.answer import Image, Outcome, Reply
from cloche.mcp.tools.tool import Call, SandboxRef, Tool
from cloche.model.errors import InvalidError
from cloche.model.file import FileInfo
from cloche.sdk._async.sandbox import AsyncSandbox

MAX_READ_BYTES = 256 << 10
MAX_WRITE_CHARACTERS = 16 << 20
#: entries that are looked at before the answer is cut, so that a huge tree costs no more than it can tell
MAX_WALKED = 20_000
Path = Annotated[
    str, msgspec.Meta(min_length=1, max_length=4096, description="Absolute, or relative to the home directory.")
]


class ReadArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    path: Path
    sandbox_id: SandboxRef = None
    offset: Annotated[int, msgspec.Meta(ge=0, le=1 << 53, description="First byte to read (0).")] = 0
    length: Annotated[
        int, msgspec.Meta(ge=1, le=MAX_READ_BYTES, description="Bytes to read at most (65536; 262144 at most).")
    ] = bounds.MAX_TEXT_BYTES
    encoding: Annotated[
        Literal["text", "base64"], msgspec.Meta(description="base64 for files that are not UTF-8 text.")
    ] = "text"


class WriteArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    path: Path
    content: Annotated[str, msgspec.Meta(max_length=MAX_WRITE_CHARACTERS, description="The whole new content.")]
    sandbox_id: SandboxRef = None
    encoding: Annotated[
        Literal["text", "base64"], msgspec.Meta(description="How `content` is written; base64 for bytes.")
    ] = "text"
    append: Annotated[bool, msgspec.Meta(description="Add to the end instead of replacing the file.")] = False
    executable: Annotated[bool, msgspec.Meta(description="Make it a program (mode 755).")] = False


class ListFilesArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    path: Path = "."
    sandbox_id: SandboxRef = None
    depth: Annotated[int, msgspec.Meta(ge=1, le=100, description="How many levels of directories (1).")] = 1
    limit: Annotated[int, msgspec.Meta(ge=1, le=2000, description="Entries at most (200).")] = 200


class FileRead(Outcome, kw_only=True):
    """`size` of the whole file in bytes. `next_offset`: where to go on reading, or null at the end. An image comes as
    image content, with `encoding` "image" and no `content`."""

    sandbox_id: str = ""
    path: str = ""
    size: int = 0
    offset: int = 0
    next_offset: int | None = None
    encoding: str = "text"
    content: str = ""


class FileWritten(Outcome, kw_only=True):
    sandbox_id: str = ""
    path: str = ""
    size: int = 0


class Entry(msgspec.Struct, kw_only=True):
    """`type`: file, directory, symlink, fifo, socket or device. `size` in bytes, `mode` octal."""

    path: str
    type: str
    size: int
    mode: str
    target: str | None = None


class FilesListed(Outcome, kw_only=True):
    """Sorted by path. `truncated`: there are more."""

    sandbox_id: str = ""
    path: str = ""
    entries: list[Entry] = []
    truncated: bool = False


async def read(call: Call, given: ReadArguments) -> Reply:
    async with call.sandboxes.using(given.sandbox_id) as (box, notes):
        info = await box.files.stat(given.path, follow=True)
        if info.type != "file":
            raise InvalidError(f"{given.path} is a {info.type}", remedy="list_files shows a directory", field="path")
        if given.encoding == "text" and not given.offset and (image := await _image(box, given.path, info)):
            shown = FileRead(sandbox_id=box.id, path=info.path, size=info.size, encoding="image", notes=notes)
            return Reply(shown, f"{bounds.one_line(info.path)}: {image.type}, {info.size} bytes", [image])
        data = await box.files.read_bytes(
            given.path, offset=given.offset, length=given.length, max_bytes=MAX_READ_BYTES
        )
    content, used = _decoded(given, data)
    end = given.offset + used
    after = end if end < info.size and used else None
    found = FileRead(
        sandbox_id=box.id, path=info.path, size=info.size, offset=given.offset, next_offset=after,
        encoding=given.encoding, content=content, notes=notes,
    )  # fmt: skip
    more = f"\n[{info.size - end} of {info.size} bytes follow: read_file with offset={end}]" if after else ""
    return Reply(found, (content or "(empty)") + more)


async def write(call: Call, given: WriteArguments) -> Reply:
    data = _bytes_of(given)
    mode = 0o755 if given.executable else None
    async with call.sandboxes.using(given.sandbox_id) as (box, notes):
        info = await box.files.write(given.path, data, mode=mode, append=given.append)
    written = FileWritten(sandbox_id=box.id, path=info.path, size=info.size, notes=notes)
    return Reply(written, f"Wrote {len(data)} bytes to {bounds.one_line(info.path)}.")


async def list_files(call: Call, given: ListFilesArguments) -> Reply:
    async with call.sandboxes.using(given.sandbox_id) as (box, notes):
        found, complete = await _walked(box, given)
    shown = sorted(found, key=lambda info: info.path)[: given.limit]
    truncated = not complete or len(shown) < len(found)
    entries = [_entry(info) for info in shown]
    listed = FilesListed(sandbox_id=box.id, path=given.path, entries=entries, truncated=truncated, notes=notes)
    more = ["[… there are more: ask for a directory below, or a larger limit]"] if truncated else []
    return Reply(listed, bounds.cut("\n".join([*map(_line, entries), *more]) or "(empty directory)"))


async def _walked(box: AsyncSandbox, given: ListFilesArguments) -> tuple[list[FileInfo], bool]:
    found: list[FileInfo] = []
    async with aclosing(box.files.walk(given.path, depth=given.depth)) as entries:  # type: ignore[type-var]
        async for info in entries:
            if len(found) == MAX_WALKED:
                return found, False
            found.append(info)
    return found, True


async def _image(box: AsyncSandbox, path: str, info: FileInfo) -> Image | None:
    if info.size > images.MAX_BYTES or images.kind(await box.files.read_bytes(path, length=images.MAGIC_BYTES)) is None:
        return None
    data = await box.files.read_bytes(path, length=images.MAX_BYTES)
    kind = images.kind(data)
    return Image(kind, data) if kind else None


def _decoded(given: ReadArguments, data: bytes) -> tuple[str, int]:
    """The content and how many bytes of `data` are in it: a character that is cut in two is left for the next read."""
    if given.encoding == "base64":
        return base64.b64encode(data).decode(), len(data)
    for cut in range(min(4, len(data) + 1)):
        whole = data[: len(data) - cut]
        try:
            text = whole.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if "\0" not in text and (whole or not data) and (not cut or len(data) == given.length):
            return text, len(whole)
        break
    raise InvalidError(
        f"{given.path} is not UTF-8 text",
        remedy="read_file with encoding=base64, or run_command `file`, `xxd` or `strings`",
        field="path",
    )


def _bytes_of(given: WriteArguments) -> bytes:
    if given.encoding == "text":
        return given.content.encode("utf-8", "replace")
    try:
        return base64.b64decode(given.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError(f"content is not base64: {error}", field="content", remedy="encoding=text") from error


def _entry(info: FileInfo) -> Entry:
    return Entry(path=info.path, type=info.type, size=info.size, mode=f"{info.mode:04o}", target=info.target)


def _line(entry: Entry) -> str:
    arrow = f" -> {bounds.one_line(entry.target)}" if entry.target else ""
    slash = "/" if entry.type == "directory" else ""
    return f"{entry.size:>10}  {entry.mode}  {bounds.one_line(entry.path)}{slash}{arrow}"


TOOLS = (
    Tool(
        name="read_file",
        title="Read a file",
        description=(
            "Read a text file of the sandbox, or a part of it; long files come in pieces (next_offset). PNG, JPEG, GIF "
            "and WebP files come back as images. For other binary files use encoding=base64."
        ),
        arguments=ReadArguments,
        outcome=FileRead,
        run=read,
        read_only=True,
    ),
    Tool(
        name="write_file",
        title="Write a file",
        description="Write a file of the sandbox, replacing what was there; missing directories are made.",
        arguments=WriteArguments,
        outcome=FileWritten,
        run=write,
        destructive=True,
        idempotent=True,
    ),
    Tool(
        name="list_files",
        title="List files",
        description="List a directory of the sandbox with types, sizes and modes; depth 2 and more goes below it.",
        arguments=ListFilesArguments,
        outcome=FilesListed,
        run=list_files,
        read_only=True,
    ),
)
