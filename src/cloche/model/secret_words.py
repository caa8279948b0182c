"""Secrets in words, as people type them: `--secret GITHUB_TOKEN@api.github.com`.

NAME@HOST[,HOST…]                  the client's environment variable NAME
NAME=env:VARIABLE@HOST             another variable of the client
NAME=file:/path@HOST               a file, read by the node whenever it needs the value
NAME=keyring:SERVICE/USER@HOST     the keyring of the node's machine
NAME=cmd:pass show work/key@HOST   what a command of the node's machine prints
…@HOST:header=X-Api-Key            only in this header; also :header (any), :basic, :query and :body, several of them
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

import msgspec

from cloche.model.egress import Place, Secret, SecretSource
from cloche.model.egress_checks import check_secrets
from cloche.model.errors import InvalidError
from cloche.model.secret_checks import VARIABLE

_FORMS = "NAME@HOST, or NAME=env:VARIABLE@HOST, file:/path, keyring:SERVICE/USER or cmd:COMMAND"
_PLACES: dict[str, Place] = {"header": "header", "basic": "basic", "query": "query", "body": "body"}


class SecretWord(NamedTuple):
    """`variable`: the client's environment variable that has the value; None: the node reads it from its source."""

    secret: Secret
    variable: str | None


def parse_secret(text: str) -> SecretWord:
    """Raises InvalidError."""
    before, at, after = text.rpartition("@")
    if not at or not before or not after:
        what = "" if at and not before else "the host where it is used is missing; "
        raise _wrong(text, f"{what}a secret is {_FORMS}")
    if "://" in after:
        raise _wrong(text, "a host is written without https:// in front; a secret goes no other way")
    name, equals, where = before.partition("=")
    source, variable = _source(text, where) if equals else (SecretSource(), name)
    hosts, *places = after.split(":")
    secret = Secret(name=name, hosts=[host.strip().lower() for host in hosts.split(",")], source=source)
    if places:
        secret = _with_places(text, secret, places)
    check_secrets([secret])
    return SecretWord(secret, variable)


def secret_words(secret: Secret) -> str:
    """The same form again, without any value; for people to read."""
    source = secret.source
    from_where = ""
    if source.file is not None:
        from_where = f"=file:{source.file}"
    elif source.keyring is not None:
        from_where = f"=keyring:{source.keyring}"
    elif source.command is not None:
        from_where = f"=cmd:{shlex.join(source.command)}"
    elif source.variable is not None:
        from_where = f"=env:{source.variable}"
    return f"{secret.name}{from_where}@{','.join(secret.hosts)}{_place_words(secret)}"


def _source(text: str, where: str) -> tuple[SecretSource, str | None]:
    kind, _, value = where.partition(":")
    if kind == "env" and VARIABLE.fullmatch(value):
        return SecretSource(variable=value), value
    if kind == "file":
        return SecretSource(file=value), None
    if kind == "keyring":
        return SecretSource(keyring=value), None
    if kind == "cmd":
        return SecretSource(command=_command(text, value)), None
    raise _wrong(text, f"a secret is {_FORMS}; its value is never typed")


def _command(text: str, value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as error:
        raise _wrong(text, f"the command has {error}") from error


def _with_places(text: str, secret: Secret, words: list[str]) -> Secret:
    places: list[Place] = []
    headers = []
    for word in words:
        kind, equals, header = word.partition("=")
        if kind not in _PLACES or (equals and kind != "header"):
            raise _wrong(text, f"{word!r} is none of :header, :header=NAME, :basic, :query and :body")
        if _PLACES[kind] not in places:
            places.append(_PLACES[kind])
        headers += [header] if equals else []
    return msgspec.structs.replace(secret, places=places, headers=headers)


def _place_words(secret: Secret) -> str:
    if secret.places == ["header", "basic"] and not secret.headers:
        return ""
    named = "".join(f":header={header}" for header in secret.headers)
    return "".join(named if place == "header" and named else f":{place}" for place in secret.places)


def _wrong(text: str, message: str) -> InvalidError:
    # the text is not repeated: somebody may have typed a value into it
    return InvalidError(f"--secret {text.partition('=')[0].partition('@')[0]}…: {message}", field="secrets")
