"""Says which field of a secret is wrong. Its hosts are checked as those of rules are (`egress_checks.py`), and more
narrowly: what may be sent anywhere is no secret."""

from __future__ import annotations

import re
from typing import get_args

from cloche.model.egress import Place, Secret, SecretSource
from cloche.model.errors import InvalidError

MAX_HOSTS = 64
MAX_HEADERS = 16
MAX_SOURCE = 4096

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
PLACEHOLDER = re.compile(r"cloche-secret-[0-9a-f]{32}")
#: what says where the request goes and how long it is
_FRAMING = frozenset(
    ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"]
)


def check_secret(secret: Secret, field: str) -> None:
    """Everything but the syntax of its hosts. Raises InvalidError."""
    if not VARIABLE.fullmatch(secret.name):
        raise _wrong(f"{field}.name", f"{secret.name!r} is no name of an environment variable")
    if secret.placeholder is not None and not PLACEHOLDER.fullmatch(secret.placeholder):
        raise _wrong(f"{field}.placeholder", "a placeholder is made by the node")
    _check_hosts(secret.hosts, f"{field}.hosts")
    _check_source(secret.source, f"{field}.source")
    _check_places(secret, field)


def _check_hosts(hosts: list[str], field: str) -> None:
    if not 0 < len(hosts) <= MAX_HOSTS:
        raise _wrong(field, f"a secret is for 1 to {MAX_HOSTS} hosts")
    for host in hosts:
        if "*" in host and host.strip(".").count(".") < 2:
            raise _wrong(field, f"{host!r} is too many hosts for a secret")


def _check_source(source: SecretSource, field: str) -> None:
    given = [name for name in source.__struct_fields__ if getattr(source, name) is not None]
    if len(given) > 1:
        raise _wrong(field, f"one source, and not {' and '.join(given)}")
    if source.file is not None and (not source.file.startswith("/") or not _is_text(source.file)):
        raise _wrong(f"{field}.file", f"{source.file!r} is no absolute path")
    if source.keyring is not None and not (all(source.keyring.partition("/")) and _is_text(source.keyring)):
        raise _wrong(f"{field}.keyring", f"{source.keyring!r} is not SERVICE/USER")
    if source.command is not None and (not source.command or not source.command[0] or not _all_text(source.command)):
        raise _wrong(f"{field}.command", "a command has a program and no NUL")
    if source.variable is not None and not VARIABLE.fullmatch(source.variable):
        raise _wrong(f"{field}.variable", f"{source.variable!r} is no name of an environment variable")


def _check_places(secret: Secret, field: str) -> None:
    if not secret.places or len(set(secret.places)) != len(secret.places):
        raise _wrong(f"{field}.places", "at least one place, and none twice")
    for place in secret.places:
        if place not in get_args(Place):
            raise _wrong(f"{field}.places", f"{place!r} is none of {', '.join(get_args(Place))}")
    if secret.headers and "header" not in secret.places:
        raise _wrong(f"{field}.headers", "headers are named, and header is none of the places")
    if len(secret.headers) > MAX_HEADERS:
        raise _wrong(f"{field}.headers", f"at most {MAX_HEADERS}")
    for header in secret.headers:
        if not HEADER.fullmatch(header) or header.lower() in _FRAMING:
            raise _wrong(f"{field}.headers", f"{header!r} is no header that can hold a secret")


def _all_text(words: list[str]) -> bool:
    return sum(len(word) for word in words) <= MAX_SOURCE and all(_is_text(word) for word in words)


def _is_text(word: str) -> bool:
    return "\0" not in word and len(word) <= MAX_SOURCE


def _wrong(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", field=field)
