"""What a mirror's signed Release and its Packages say, and which of two versions is newer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import zip_longest
from typing import NamedTuple

from cloche.engines.vm.apt_sources import stanzas
from cloche.engines.vm.damaged import DamagedError

MAX_PARAGRAPH_BYTES = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")
_SAFE_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:%-]*(/[A-Za-z0-9][A-Za-z0-9._+~:%-]*)*")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}")
_VERSION = re.compile(r"(?:(\d{1,9}):)?([0-9A-Za-z.+~-]{1,200})")
_DEPENDS = re.compile(r"([a-z0-9][a-z0-9+.-]{1,127})(?::\w+)?\s*(?:\(=\s*([^()\s]{1,200})\))?")


class File(NamedTuple):
    """A file of the mirror, by what has to be in it."""

    path: str
    size: int
    sha256: str


class Release(NamedTuple):
    """`files`: path below the suite → file. `only_when_asked`: apt installs nothing from there by itself."""

    suite: str
    files: Mapping[str, File]
    by_hash: bool
    only_when_asked: bool


class Package(NamedTuple):
    name: str
    version: str
    depends: str
    file: File


def release(text: str, now: datetime, *, check_valid_until: bool = True) -> Release:
    """Raises DamagedError: not of the shape of a Release, or older than it says it may be."""
    fields = next(stanzas(text), {})
    if check_valid_until and (until := fields.get("valid-until")) and _time(until) < now:
        raise DamagedError(f"it was valid until {until[:40]}: the mirror is stale, or this machine's clock is wrong")
    found = (_listed(line) for line in fields.get("sha256", "").splitlines())
    files = {file.path: file for file in found if file}
    if not files:
        raise DamagedError("it names no files")
    return Release(
        fields.get("codename") or fields.get("suite", ""),
        files,
        fields.get("acquire-by-hash", "").lower() == "yes",
        fields.get("notautomatic", "").lower() == "yes",
    )


def packages(pieces: Iterable[bytes], wanted: re.Pattern[bytes]) -> Iterator[Package]:
    """Of a Packages file, those whose name matches as a whole. What is not of the right shape is passed over."""
    for paragraph in _paragraphs(pieces):
        name = re.search(rb"^Package: *(\S+)$", paragraph, re.MULTILINE)
        if name and wanted.fullmatch(name[1]):
            fields = next(stanzas(paragraph.decode("utf-8", "replace")), {})
            if package := _package(fields):
                yield package


def dependency(depends: str, wanted: re.Pattern[str]) -> tuple[str, str | None] | None:
    """(name, exact version) of the first dependency whose name matches as a whole."""
    for part in depends.split(","):
        found = _DEPENDS.fullmatch(part.partition("|")[0].strip())
        if found and wanted.fullmatch(found[1]):
            return found[1], found[2]
    return None


def newer(version: str, other: str) -> bool:
    """Whether `version` comes behind `other` in the order of deb-version(7)."""
    return version_key(version) > version_key(other)


def version_key(version: str) -> tuple[int, _Part, _Part]:
    """Compares as dpkg does. Raises DamagedError for what is no version."""
    found = _VERSION.fullmatch(version)
    if not found:
        raise DamagedError(f"{version[:80]!r} is no version")
    upstream, _, revision = found[2].rpartition("-") if "-" in found[2] else (found[2], "", "")
    return int(found[1] or 0), _Part(upstream), _Part(revision)


class _Part:
    """An upstream version or a revision: text and numbers in turn, "~" before the end, letters before the others."""

    def __init__(self, text: str) -> None:
        self._text = re.split(r"\d+", text)
        self._numbers = [int(number) for number in re.findall(r"\d+", text)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Part) and not self < other and not other < self

    def __hash__(self) -> int:
        return hash(tuple(self._numbers))

    def __lt__(self, other: _Part) -> bool:
        for (mine, my_number), (theirs, their_number) in zip_longest(self._pairs(), other._pairs(), fillvalue=("", 0)):
            if _order(mine) != _order(theirs):
                return _order(mine) < _order(theirs)
            if my_number != their_number:
                return my_number < their_number
        return False

    def __gt__(self, other: _Part) -> bool:
        return other < self

    def _pairs(self) -> list[tuple[str, int]]:
        return list(zip(self._text, [*self._numbers, 0], strict=True))


def _order(text: str) -> list[int]:
    """The end counts as 0, so that only "~" comes before it."""
    return [-1 if char == "~" else ord(char) if char.isalpha() else ord(char) + 256 for char in text] + [0]


def _paragraphs(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        yield from whole
        if len(rest) > MAX_PARAGRAPH_BYTES:
            raise DamagedError("a paragraph of it is too long")
    yield rest


def _listed(line: str) -> File | None:
    words = line.split()
    return _file(words[2], words[1], words[0]) if len(words) == 3 else None


def _file(path: str, size: str, sha256: str) -> File | None:
    """None: it could not be asked for, or not be checked."""
    parts = path.split("/")
    good = _SAFE_PATH.fullmatch(path) and ".." not in parts and len(path) < 1000
    if not good or not re.fullmatch(r"\d{1,15}", size) or not _HASH.fullmatch(sha256):
        return None
    return File(path, int(size), sha256)


def _package(fields: Mapping[str, str]) -> Package | None:
    name, version = fields.get("package", ""), fields.get("version", "")
    file = _file(fields.get("filename", "").removeprefix("./"), fields.get("size", ""), fields.get("sha256", ""))
    if file is None or not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        return None
    return Package(name, version, fields.get("depends", ""), file)


def _time(text: str) -> datetime:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise DamagedError(f"{text[:40]!r} is no date") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
