# Made from ../_async/templates.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""Templates of a node: named specs that `Sandbox.create(template=…)` begins from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import msgspec

from cloche.model.code import Language
from cloche.model.template import TemplateSpec, Warm, WarmContext
from cloche.sdk import options, wire
from cloche.sdk._sync.transport import Transport
from cloche.sdk.options import SandboxOptions
from cloche.sdk.values import TemplateInfo, TemplateInfoList

#: inside the class `list` is its own method
TemplateInfos = list[TemplateInfo]


class Templates:
    """`node.templates`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def set(
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
        return wire.decode(self._transport.ask("PUT", _path(name), json=body), TemplateInfo)

    def get(self, name: str) -> TemplateInfo:
        """Raises NotFoundError."""
        return wire.decode(self._transport.ask("GET", _path(name)), TemplateInfo)

    def list(self) -> TemplateInfos:
        """All, by name."""
        return wire.decode(self._transport.ask("GET", "/v1/templates"), TemplateInfoList).templates

    def remove(self, name: str) -> None:
        """Forget it; sandboxes that were made from it go on. Raises NotFoundError."""
        self._transport.ask("DELETE", _path(name))


def _path(name: str) -> str:
    return f"/v1/templates/{wire.segment(name)}"


def _items(contexts: Mapping[Language, str] | None) -> Any:
    return (contexts or {}).items()
