"""The OpenAPI 3.1 description, made from the route table; `python -m cloche.api.openapi` prints it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from cloche._version import __version__
from cloche.api.endpoint import Endpoint, Raw
from cloche.api.table import ENDPOINTS
from cloche.model.errors import BY_CODE

Object = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_SEGMENT = re.compile(r"{(\w+)}")
_PATH_WORDS = {
    "ref": "A sandbox: its id, its name, or a unique prefix of its id.",
    "pid": "A process: its id or a unique prefix of it.",
    "cid": "A code context: its id or a unique prefix of it.",
    "xid": "An execution: its whole id.",
    "name": "A template's name.",
    "secret": "A secret's name.",
    "ask": "A question: its whole id.",
    "port": "A port of the sandbox, 1 to 65535.",
    "snapshot": "A snapshot: its id, its name, or a unique prefix of its id.",
}
_TAGS = ("egress", "ports", "processes", "files", "contexts", "executions", "snapshots", "sandboxes")
#: what any route may answer, besides its own errors
_ALWAYS = ("invalid", "internal", "permission_denied")


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """`code` is stable; `remedy` is a command or a setting that mends it."""

    code: str
    message: str
    remedy: str | None = None
    details: dict[str, Any] = {}


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    error: ErrorBody


def document() -> Object:
    """The whole description as JSON values."""
    kinds = _kinds()
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    by_kind = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: Object = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, by_kind, components)
    about = {"title": "Cloche node", "version": __version__, "summary": "Sandboxes for code that nobody has reviewed"}
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": {"schemas": _used(components)}}


def rendered() -> str:
    """The text of spec/openapi.json."""
    return json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _kinds() -> list[Any]:
    found: dict[str, Any] = {repr(ErrorAnswer): ErrorAnswer}
    for endpoint in ENDPOINTS:
        for kind in (endpoint.query, endpoint.body, endpoint.answer):
            if kind is not None and not isinstance(kind, Raw):
                found[repr(kind)] = kind
    return list(found.values())


def _operation(endpoint: Endpoint, by_kind: Object, components: Object) -> Object:
    operation: Object = {
        "operationId": endpoint.operation_id,
        "summary": endpoint.summary,
        "tags": [_tag(endpoint.path)],
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint, components)],
        "responses": dict(_responses(endpoint, by_kind)),
    }
    if endpoint.body is not None:
        operation["requestBody"] = _request_body(endpoint, by_kind)
    return operation


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part and not part.startswith("{")]
    return next((tag for tag in _TAGS if tag in parts), "node")


def _path_parameters(path: str) -> Iterator[Object]:
    for name in _SEGMENT.findall(path):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_WORDS[name],
            "schema": {"type": "string", "minLength": 1},
        }


def _query_parameters(endpoint: Endpoint, components: Object) -> Iterator[Object]:
    schema = components.get(endpoint.query.__name__, {})
    required = schema.get("required", [])
    for name, described in schema.get("properties", {}).items():
        yield {"name": name, "in": "query", "required": name in required, "schema": described}


def _request_body(endpoint: Endpoint, by_kind: Object) -> Object:
    return {"required": _is_required(endpoint.body), "content": _content(endpoint.body, by_kind)}


def _is_required(body: Any) -> bool:
    """A JSON body that has a field without a default; an empty one counts as `{}`."""
    return not isinstance(body, Raw) and any(field.required for field in msgspec.structs.fields(body))


def _responses(endpoint: Endpoint, by_kind: Object) -> Iterator[tuple[str, Object]]:
    answer: Object = {"description": endpoint.summary}
    if endpoint.answer is not None:
        answer["content"] = _content(endpoint.answer, by_kind)
    yield str(endpoint.status), answer
    if endpoint.also is not None:
        yield "200", {"description": "With follow=1", "content": _content(endpoint.also, by_kind)}
    yield from _failures(endpoint)


def _failures(endpoint: Endpoint) -> Iterator[tuple[str, Object]]:
    codes: dict[int, set[str]] = {}
    for code in (*endpoint.errors, *_ALWAYS):
        codes.setdefault(BY_CODE[code].http_status, set()).add(code)
    for status, names in sorted(codes.items()):
        yield str(status), {"description": ", ".join(sorted(names)), "content": _error_content()}


def _error_content() -> Object:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(name="ErrorAnswer")}}}


def _content(kind: Any, by_kind: Object) -> Object:
    if isinstance(kind, Raw):
        return {kind.media_type: {"schema": {}}}
    return {"application/json": {"schema": by_kind[repr(kind)]}}


def _used(components: Object) -> Object:
    """Queries are spelled out as parameters, so their schemas are not named."""
    queries = {endpoint.query.__name__ for endpoint in ENDPOINTS}
    bodies = {getattr(endpoint.body, "__name__", "") for endpoint in ENDPOINTS}
    return {name: schema for name, schema in sorted(components.items()) if name not in queries - bodies}


if __name__ == "__main__":
    sys.stdout.write(rendered())
