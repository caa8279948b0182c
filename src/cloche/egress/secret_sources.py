"""Where the node reads the values of secrets from: a file, the machine's keyring, or a command's output."""

from __future__ import annotations

from cloche.model.egress import SecretSource


async def read_secret(name: str, source: SecretSource) -> str:
    """The value, without the newline at its end. Raises SecretUnreadableError, which never contains it, and
    InvalidError when the source names nothing to read or the value cannot stand in a header."""
    raise NotImplementedError
