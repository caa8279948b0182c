"""Templates of a node: named specs that `Sandbox.create(template=…)` begins from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import msgspec

from cloche.model.code import Language
from cloche.model.template import TemplateSpec, Warm, WarmContext
from cloche.sdk import options, wire
from cloche.sdk._async.transport import AsyncTransport
from cloche.sdk.options import SandboxOptions
from cloche.sdk.values import TemplateInfo, TemplateInfoList

#: inside the class `list` is its own method
TemplateInfos = list[TemplateInfo]


class AsyncTemplates:
    """`node.templates`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def set(
        self, name: str, /, image: str = "host", *, warm: int = 0, contexts: Mapping[Language, str] | None = None,
        **sandbox: Unpack[SandboxOptions],
    ) -> TemplateInfo:  # fmt: skip
        """Write or replace a template. `warm`: how many of its sandboxes wait ready. `contexts`: language → code that
        has run in the default context of every sandbox made from it. Other options are those of `Sandbox.create`.

        Raises InvalidError, and what a create with these options would raise: UnavailableError,
        LimitUnenforceableError."""
        asked = TemplateSpec(
            spec=options.sandbox_spec(image, sandbox),
            warm=Warm(size=warm, contexts=[WarmContext(language=key, code=code) for key, code in _items(contexts)]),
        )
        asked.check()
        body = {"spec": options.body(asked.spec), "warm": msgspec.to_builtins(asked.warm)}
        return wire.decode(await self._transport.ask("PUT", _path(name), json=body), TemplateInfo)

    async def get(self, name: str) -> TemplateInfo:
        """Raises NotFoundError."""
        return wire.decode(await self._transport.ask("GET", _path(name)), TemplateInfo)

    async def list(self) -> TemplateInfos:
        """All, by name."""
        return wire.decode(await self._transport.ask("GET", "/v1/templates"), TemplateInfoList).templates

    async def remove(self, name: str) -> None:
        """Forget it; sandboxes that were made from it go on. Raises NotFoundError."""
        await self._transport.ask("DELETE", _path(name))


def _path(name: str) -> str:
    return f"/v1/templates/{wire.segment(name)}"


def _items(contexts: Mapping[Language, str] | None) -> Any:
    return (contexts or {}).items()
