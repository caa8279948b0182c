"""The settings of one MCP server, and which of them a file in the working directory may say.

The six old names are those of the OMCP Python Sandbox, so that its configurations go on working."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from cloche.model.egress import EgressPolicy
from cloche.model.errors import InvalidError

Scope = Literal["own", "all"]
OMCP_NAMES = ("SANDBOX_TIMEOUT", "MAX_SANDBOXES", "DOCKER_IMAGE", "SANDBOX_BASE_URL", "DEBUG", "LOG_LEVEL")
MAX_DOTENV_BYTES = 64 << 10
MAX_SECONDS = 366 * 86400.0
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"", "0", "false", "no", "off"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`sandbox_timeout_seconds`: a sandbox that is not used for so long is removed. `max_sandboxes`: of this server's
    own. `keep`: they outlive the server. `scope`: which sandboxes the tools can reach. `template`: of sandboxes for
    which none is named. `net` and `secrets`: of all of them, as `Sandbox.create` takes them; the tools cannot change
    them. `notes` go to the log."""

    sandbox_timeout_seconds: float = 300.0
    max_sandboxes: int = 10
    keep: bool = False
    scope: Scope = "own"
    template: str | None = None
    net: str | EgressPolicy | None = None
    secrets: list[str] = []
    log_level: str = "INFO"
    notes: list[str] = []


_USUAL = Settings()


def read(environ: Mapping[str, str], dotenv: str = "") -> Settings:
    """The environment wins over the text of a `.env` file. Raises InvalidError naming the variable.

    A working directory may belong to a stranger, so its file says only what it could say to OMCP."""
    in_file = {name: value for name, value in parse_dotenv(dotenv).items() if name in OMCP_NAMES}
    given = {**in_file, **environ}
    level, notes = _level(given)
    return Settings(
        sandbox_timeout_seconds=_number(given, "SANDBOX_TIMEOUT", _USUAL.sandbox_timeout_seconds, MAX_SECONDS),
        max_sandboxes=max(1, int(_number(given, "MAX_SANDBOXES", _USUAL.max_sandboxes, 10_000))),
        keep=_flag(given, "CLOCHE_MCP_KEEP"),
        scope=_scope(given.get("CLOCHE_MCP_SCOPE") or "own"),
        template=given.get("CLOCHE_MCP_TEMPLATE") or None,
        log_level=level,
        notes=[*notes, *_without_effect(given)],
    )


def parse_dotenv(text: str) -> dict[str, str]:
    """`NAME=value` lines; quotes around a value and lines that begin with # are dropped, all else is left alone."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value.partition(" #")[0].rstrip()


def _number(given: Mapping[str, str], name: str, default: float, largest: float) -> float:
    text = given.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value <= largest:
        raise InvalidError(f"{name} must be a number above 0 and at most {largest:g}, not {text[:80]!r}", field=name)
    return value


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "").strip().lower()
    if text not in _YES | _NO:
        raise InvalidError(f"{name} must be true or false, not {text[:80]!r}", field=name)
    return text in _YES


def _scope(text: str) -> Scope:
    if text not in ("own", "all"):
        raise InvalidError(f"CLOCHE_MCP_SCOPE must be own or all, not {text[:80]!r}", field="CLOCHE_MCP_SCOPE")
    return "all" if text == "all" else "own"


def _level(given: Mapping[str, str]) -> tuple[str, list[str]]:
    # DEBUG and LOG_LEVEL belong to many programs: what this one cannot read must not stop it
    if given.get("DEBUG", "").strip().lower() in _YES:
        return "DEBUG", []
    level = given.get("LOG_LEVEL", "").strip().upper() or "INFO"
    if level in _LEVELS:
        return level, []
    return "INFO", [f"LOG_LEVEL {level[:80]!r} is not one of {', '.join(_LEVELS)}: INFO is used"]


def _without_effect(given: Mapping[str, str]) -> list[str]:
    notes = []
    if given.get("DOCKER_IMAGE"):
        notes.append("DOCKER_IMAGE has no effect: sandboxes are made of this machine's own /usr, not of an image")
    if given.get("SANDBOX_BASE_URL"):
        notes.append("SANDBOX_BASE_URL has no effect: this server answers on standard input and output only")
    return notes
