"""Files in YAML (or JSON, which is YAML too) that people name on the command line.

They may come with somebody else's repository: a small one must not be able to stand for more than there is memory."""

from __future__ import annotations

import functools
from typing import Any

from cloche.model.errors import InvalidError, NotFoundError

#: in a file: what an anchor names, each time, with all that is in it
MAX_ALIASES = 64
#: in a mapping into which others are merged
MAX_MERGED = 10_000
#: YAML counts `1:59:59` to the base of 60, which takes hours for many of them
MAX_NUMBER = 100


def read(path: str, kind: str, *, max_bytes: int, field: str) -> Any:
    """What it says; None for an empty one. `kind`: what errors call it ("policy file"). Raises NotFoundError, and
    InvalidError naming `field` for one that is too large or no YAML."""
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise NotFoundError(f"cannot read {kind} {path}: {error.strerror}") from error
    # a file that is cut off may well be valid, and mean something else
    if len(content) > max_bytes:
        raise InvalidError(f"{kind} {path} is larger than {max_bytes} bytes", field=field)
    return _parsed(content, f"{kind} {path}", field)


def _parsed(content: bytes, called: str, field: str) -> Any:
    import yaml

    try:
        return _loader()(content).get_single_data()
    except Exception as error:
        # its constructors raise whatever they meet: KeyError, IndexError, OverflowError
        said = str(error) if isinstance(error, yaml.YAMLError | ValueError) else f"{type(error).__name__}: {error}"
        raise InvalidError(f"{called} is no YAML: {' '.join(said.split())}", field=field) from error


@functools.cache
def _loader() -> Any:
    """Made when there is a file: most commands read none."""
    import yaml

    class Bounded(yaml.SafeLoader):
        aliases = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                self.aliases += 1
                if self.aliases > MAX_ALIASES:
                    raise yaml.YAMLError(f"more than {MAX_ALIASES} aliases")
            return super().compose_node(parent, index)

        def compose_scalar_node(self, anchor: Any) -> Any:
            node = super().compose_scalar_node(anchor)
            if len(node.value) > MAX_NUMBER and node.tag.endswith((":int", ":float")):
                raise yaml.YAMLError(f"a number of more than {MAX_NUMBER} characters")
            return node

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            if len(node.value) > MAX_MERGED:
                raise yaml.YAMLError(f"a mapping of more than {MAX_MERGED} keys")

    return Bounded
