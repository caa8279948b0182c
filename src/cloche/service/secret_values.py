"""Values of secrets. They are in this process's memory and nowhere else on the node's side: never in the store, in a
log, an event or an error.

What is captured in a snapshot, or outlives this process, has its placeholders and no values: they are read again from
where they come from, or have to be given again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from cloche.egress.messages import GivenSecret
from cloche.egress.secrecy.secret_sources import checked_value, read_secret
from cloche.egress.secrecy.secrets import new_placeholder
from cloche.model.egress import Secret
from cloche.model.errors import ClocheError, InvalidError
from cloche.model.sandbox import SandboxRecord

log = logging.getLogger("cloche.service")


class SecretValues:
    """By sandbox and placeholder. What comes with a create waits under its placeholder until the sandbox has an id."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        self._given: dict[tuple[str, str], str] = {}
        self._read: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return "SecretValues()"

    def take(self, secrets: Sequence[Secret], values: Mapping[str, str], *, complete: bool = True) -> list[Secret]:
        """The secrets of a sandbox to be made, each with a placeholder. `complete`: every value has to be there that
        no source has. Raises InvalidError, which never contains a value."""
        checked = _checked(secrets, values)
        for secret in secrets if complete else ():
            if secret.source.is_client and secret.name not in checked:
                raise _no_value(secret)
        named = [secret if secret.placeholder else _named(secret) for secret in secrets]
        self._waiting.update({key_of(secret): checked[secret.name] for secret in named if secret.name in checked})
        return named

    def drop(self, secrets: Sequence[Secret]) -> None:
        """What was taken and no sandbox has claimed."""
        for secret in secrets:
            self._waiting.pop(key_of(secret), None)

    def claim(self, record: SandboxRecord) -> None:
        """What waits for this sandbox is its own from now on."""
        for secret in record.sandbox.spec.secrets:
            value = self._waiting.get(key_of(secret))
            if value is not None:
                self._given[record.sandbox.id, key_of(secret)] = value

    def give(self, record: SandboxRecord, values: Mapping[str, str]) -> None:
        """New values, by name, for a sandbox that is there. Raises InvalidError."""
        secrets = record.sandbox.spec.secrets
        checked = _checked(secrets, values)
        self._given.update({(record.sandbox.id, key_of(secret)): checked[secret.name] for secret in secrets
                            if secret.name in checked})  # fmt: skip

    def inherit(self, parent_id: str, child_id: str) -> None:
        """A fork has the values of its parent."""
        for values in (self._given, self._read):
            mine = {key: value for (owner, key), value in values.items() if owner == parent_id}
            values.update({(child_id, key): value for key, value in mine.items()})

    def forget(self, sandbox_id: str) -> None:
        """The sandbox is gone."""
        for values in (self._given, self._read):
            for key in [key for key in values if key[0] == sandbox_id]:
                del values[key]

    async def read(self, record: SandboxRecord, *, strict: bool = False) -> None:
        """Read what has a source. `strict`: raise what `read_secret` raises; else the value is missing then."""
        for secret in record.sandbox.spec.secrets:
            if not secret.source.is_client:
                await self._read_one(record.sandbox.id, secret, strict)

    async def _read_one(self, sandbox_id: str, secret: Secret, strict: bool) -> None:
        try:
            self._read[sandbox_id, key_of(secret)] = await read_secret(secret.name, secret.source)
        except ClocheError as error:
            if strict:
                raise
            log.warning("sandbox %s: %s", sandbox_id, error.message)

    def of(self, record: SandboxRecord) -> list[GivenSecret]:
        """All secrets of a sandbox as the door wants them; those without a value have None."""
        secrets = record.sandbox.spec.secrets
        return [GivenSecret(secret=secret, placeholder=key_of(secret), value=self._value(record, secret))
                for secret in secrets]  # fmt: skip

    def missing(self, record: SandboxRecord) -> list[str]:
        """Names of secrets whose value this node does not have."""
        return [secret.name for secret in record.sandbox.spec.secrets if self._value(record, secret) is None]

    def _value(self, record: SandboxRecord, secret: Secret) -> str | None:
        key = (record.sandbox.id, key_of(secret))
        return self._given.get(key) or self._read.get(key)


def key_of(secret: Secret) -> str:
    return secret.placeholder or ""


def replaced(secrets: Sequence[Secret], secret: Secret) -> list[Secret]:
    """With one more, or with another one of that name, which keeps its placeholder: the code knows it already."""
    before = next((known for known in secrets if known.name == secret.name), None)
    placeholder = before.placeholder if before else None
    new = msgspec.structs.replace(secret, placeholder=placeholder or new_placeholder())
    if before is None:
        return [*secrets, new]
    return [new if known is before else known for known in secrets]


def _named(secret: Secret) -> Secret:
    return msgspec.structs.replace(secret, placeholder=new_placeholder())


def _checked(secrets: Sequence[Secret], values: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(set(values) - {secret.name for secret in secrets})
    if unknown:
        raise InvalidError(f"there is no secret {unknown[0][:64]!r} to give a value to", field="session.secrets")
    return {name: checked_value(name, value) for name, value in values.items()}


def _no_value(secret: Secret) -> InvalidError:
    variable = secret.source.variable or secret.name
    return InvalidError(f"secret {secret.name} has no source, so its value has to come with the request",
                        field=f"session.secrets.{secret.name}", variable=variable,
                        remedy=f"export {variable}=…, and make it again")  # fmt: skip
