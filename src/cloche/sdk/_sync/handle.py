# Made from ../_async/handle.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""Which sandbox is meant, and the node that has it: what each part of a sandbox stands on."""

from __future__ import annotations

from cloche.sdk import wire
from cloche.sdk._sync.node import Node
from cloche.sdk.values import SandboxInfo


class Handle:
    """`info` is what the node told of it last."""

    def __init__(self, node: Node, info: SandboxInfo) -> None:
        self._node = node
        self._transport = node.transport
        self._info = info
        self._path = f"/v1/sandboxes/{wire.segment(info.id)}"

    @property
    def id(self) -> str:
        """`sb_` and 26 characters; never used twice."""
        return self._info.id

    @property
    def name(self) -> str | None:
        """Unique among the living, or None."""
        return self._info.name

    @property
    def known(self) -> SandboxInfo:
        """What its node told of it last, without asking again."""
        return self._info
