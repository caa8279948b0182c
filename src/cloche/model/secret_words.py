"""Secrets in words, as people type them: `--secret GITHUB_TOKEN@api.github.com`.

NAME@HOST[,HOST…]                  the client's environment variable NAME
NAME=env:VARIABLE@HOST             another variable of the client
NAME=file:/path@HOST               a file, read by the node whenever it needs the value
NAME=keyring:SERVICE/USER@HOST     the keyring of the node's machine
NAME=cmd:pass show work/key@HOST   what a command of the node's machine prints
…@HOST:header=X-Api-Key            only in this header; also :header (any), :basic, :query and :body, several of them
"""

from __future__ import annotations

from typing import NamedTuple

from cloche.model.egress import Secret


class SecretWord(NamedTuple):
    """`variable`: the client's environment variable that has the value; None: the node reads it from its source."""

    secret: Secret
    variable: str | None


def parse_secret(text: str) -> SecretWord:
    """Raises InvalidError."""
    raise NotImplementedError


def secret_words(secret: Secret) -> str:
    """The same form again, without any value; for people to read."""
    raise NotImplementedError
