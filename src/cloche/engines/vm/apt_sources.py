"""The package sources that this machine already trusts, in both of apt's notations. Mostly pure.

Cloche names no mirror of its own: it takes the kernel from where the machine takes its packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

MAX_FILE_BYTES = 1 << 20
MAX_SOURCES = 200
COMPONENT = "main"
_ONE_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)(?:\s+(.*))?")
_SUITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*(/[A-Za-z0-9][A-Za-z0-9._+~-]*){0,3}")
_WRONG = ("no", "false", "without", "off", "disable", "0")


class Source(NamedTuple):
    """One mirror of one suite. `signed_by`: paths, fingerprints or an armored key, as it is written; "" for apt's own
    choice. `architectures`: of Debian's names, () for all."""

    uri: str
    suite: str
    signed_by: str = ""
    architectures: tuple[str, ...] = ()
    check_valid_until: bool = True


def read(root: Path = Path("/")) -> list[Source]:
    """Every source of binary packages from `main` over http or https, in apt's order, each once."""
    apt = root / "etc/apt"
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    found = [source for path in lists for source in parse_lines(_text(path))]
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        found += parse_stanzas(_text(path))
    return list(dict.fromkeys(found))[:MAX_SOURCES]


def parse_lines(text: str) -> list[Source]:
    """sources.list(5): `deb [option=value …] URI SUITE COMPONENT…`. Lines that mean nothing are passed over."""
    found = (_ONE_LINE.fullmatch(line.partition("#")[0].strip()) for line in text.splitlines())
    return [source for match in found if match for source in _from_line(*match.groups(default=""))]


def parse_stanzas(text: str) -> list[Source]:
    """The deb822 notation."""
    return [source for fields in stanzas(text) for source in _from_fields(fields)]


def stanzas(text: str) -> Iterator[Mapping[str, str]]:
    """Fields by their name in lower case; the lines of a value that has several are kept. Comments are left out."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            last = name.strip().lower()
            fields[last] = value.strip()
    if fields:
        yield fields


def _from_line(options: str, uri: str, suite: str, components: str) -> Iterator[Source]:
    said = {name.lower(): value for name, _, value in (word.partition("=") for word in options.split())}
    if COMPONENT not in components.split():
        return
    yield from _sources(
        [uri], [suite], said.get("signed-by", "").replace(",", " "), said.get("arch", "").replace(",", " "),
        said.get("check-valid-until", "yes"),
    )  # fmt: skip


def _from_fields(fields: Mapping[str, str]) -> Iterator[Source]:
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in _WRONG:
        return
    if COMPONENT not in fields.get("components", "").split():
        return
    yield from _sources(
        fields.get("uris", "").split(), fields.get("suites", "").split(), fields.get("signed-by", ""),
        fields.get("architectures", ""), fields.get("check-valid-until", "yes"),
    )  # fmt: skip


def _sources(
    uris: Sequence[str], suites: Sequence[str], signed_by: str, architectures: str, valid_until: str
) -> Iterator[Source]:
    for uri in filter(is_web, uris):
        # a suite with a slash at its end is a directory without an index of the usual place
        for suite in filter(is_suite, suites):
            yield Source(
                uri.rstrip("/"),
                suite,
                signed_by.strip(),
                tuple(architectures.split()),
                valid_until.lower() not in _WRONG,
            )


def is_web(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and uri.isascii()
        and uri.isprintable()
        and " " not in uri
    )


def is_suite(name: str) -> bool:
    """Whether it can stand in a path of a mirror; some have slashes, as in "bookworm/updates"."""
    return bool(_SUITE.fullmatch(name)) and ".." not in name.split("/")


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
