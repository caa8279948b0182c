"""Finds the rules that name a host, however many there are: by the name, its parent, and the names above it."""

from __future__ import annotations

from typing import Literal

from cloche.egress.deciding import names

#: "machine": localhost, which is never meant. "named": reached only by rules that name it. "local": names of a network
#: of its own, which nobody means who says "any name". "public": the others
Kind = Literal["machine", "named", "local", "public"]

_MACHINE = frozenset(["localhost", "localdomain"])
#: other sandboxes of the node, and names that the DNS must not be asked for
_NAMED = frozenset(["sandbox", "onion"])
#: multicast DNS, private use, home networks, addresses backwards
_LOCAL = frozenset(["local", "internal", "arpa"])
#: clouds' metadata under names that look public; the others have a link-local address, an .internal name or no dot
_METADATA = frozenset(["metadata.tencentyun.com", "metadata.packet.net", "metadata.platformequinix.com"])


def kind_of(name: str) -> Kind:
    top = name.rpartition(".")[2]
    if top in _MACHINE:
        return "machine"
    if top in _NAMED:
        return "named"
    return "local" if top in _LOCAL or top == name or name in _METADATA else "public"


class HostIndex:
    """Numbers under patterns (`example.com`, `*.example.com`, `**.example.com`; `*` is its user's affair)."""

    def __init__(self) -> None:
        self._exact: dict[str, list[int]] = {}
        self._below: dict[str, list[int]] = {}
        self._deep: dict[str, list[int]] = {}

    def add(self, pattern: str, number: int) -> None:
        """Raises ValueError for what is no name."""
        if pattern.startswith("**."):
            self._deep.setdefault(names.normalise(pattern[3:]), []).append(number)
        elif pattern.startswith("*."):
            self._below.setdefault(names.normalise(pattern[2:]), []).append(number)
        else:
            self._exact.setdefault(names.normalise(pattern), []).append(number)

    def find(self, name: str) -> list[int]:
        """In no order, and perhaps twice."""
        found = list(self._exact.get(name, ()))
        parent = name.partition(".")[2]
        if self._below and parent in self._below:
            found += self._below[parent]
        while self._deep and parent:
            if parent in self._deep:
                found += self._deep[parent]
            parent = parent.partition(".")[2]
        return found
