"""What a caller may say when code is run or a context is made, and the request bodies it becomes. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypedDict

import msgspec

from cloche.model.code import LANGUAGES, CodeSpec, ContextSpec, Language, OnDisconnect
from cloche.model.errors import InvalidError
from cloche.sdk.options import refuse_unknown, wrong_field


class HasId(Protocol):
    @property
    def id(self) -> str: ...


class CodeOptions(TypedDict, total=False):
    """`context`: a context or its id; None is the default one of `language`, which is made when there is none."""

    language: Language
    context: HasId | str | None
    timeout_seconds: float | None
    on_disconnect: OnDisconnect


class ContextOptions(TypedDict, total=False):
    """`env` adds to the sandbox's own; `cwd` and `user` are the sandbox's when they are not given."""

    language: Language
    cwd: str | None
    env: Mapping[str, str]
    user: str | None


def code_body(code: str, options: CodeOptions) -> dict[str, Any]:
    """Raises InvalidError naming the field that is wrong, TypeError for an option that does not exist."""
    refuse_unknown(options, CodeOptions.__annotations__, "run_code")
    given: dict[str, Any] = {"on_disconnect": "interrupt", **options, "code": code}
    context = given.pop("context", None)
    given["context_id"] = context if context is None or isinstance(context, str) else context.id
    return _checked(given, CodeSpec)


def context_body(options: ContextOptions) -> dict[str, Any]:
    """Raises InvalidError naming the field that is wrong, TypeError for an option that does not exist."""
    refuse_unknown(options, ContextOptions.__annotations__, "contexts.create")
    return _checked({**options, "env": dict(options.get("env") or {})}, ContextSpec)


def _checked(given: dict[str, Any], kind: type[CodeSpec] | type[ContextSpec]) -> dict[str, Any]:
    """What was said, without the empty rest, so that an older node can read it."""
    try:
        msgspec.convert(given, kind).check()
    except msgspec.ValidationError as error:
        field = wrong_field(error)
        remedy = f"one of: {', '.join(LANGUAGES)}" if field == "language" else None
        raise InvalidError(str(error), field=field, remedy=remedy) from error
    except UnicodeEncodeError as error:
        raise InvalidError(f"a string that stands for no bytes: {error.reason}", field="code") from error
    return {name: value for name, value in given.items() if value not in (None, {})}
