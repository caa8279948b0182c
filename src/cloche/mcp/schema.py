"""Tool arguments and results as JSON Schema, and arguments read by the same types that the schema is made of."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from cloche.model.errors import InvalidError
from cloche.sdk.options import wrong_field

T = TypeVar("T", bound=msgspec.Struct)
#: what OMCP's own callers and careless ones say instead of `sandbox_id`
_ALIASES = ("id", "sandbox")


def of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of a struct with an object at its root, as the protocol wants it."""
    _, parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    root = dict(parts.pop(kind.__name__))
    root.pop("title", None)
    root["properties"] = {name: _described(found) for name, found in root.get("properties", {}).items()}
    return {**root, "$defs": parts} if parts else root


def _described(found: dict[str, Any]) -> dict[str, Any]:
    """What is said of a value that may be null belongs to the argument, not to one of its kinds."""
    kinds = found.get("anyOf", [])
    said = [kind["description"] for kind in kinds if "description" in kind]
    bare = [{name: value for name, value in kind.items() if name != "description"} for kind in kinds]
    return {"description": said[0], **found, "anyOf": bare} if said else found


def read(given: dict[str, Any], kind: type[T]) -> T:
    """Arguments as their struct; "5" passes for 5, as models write it. Raises InvalidError naming the argument."""
    try:
        return msgspec.convert(_renamed(given, kind), kind, strict=False)
    except msgspec.ValidationError as error:
        reason = str(error)
        names = ", ".join(kind.__struct_fields__)
        raise InvalidError(
            f"wrong arguments: {reason[:500]}", remedy=f"the arguments are {names}", field=wrong_field(error)
        ) from error


def _renamed(given: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    if "sandbox_id" not in kind.__struct_fields__ or "sandbox_id" in given:
        return given
    return {"sandbox_id" if name in _ALIASES else name: value for name, value in given.items()}
