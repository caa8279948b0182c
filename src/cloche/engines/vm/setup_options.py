"""What `cloche setup vm` may be told, checked before anything is begun."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cloche.engines.vm import apt_sources
from cloche.model.errors import InvalidError

OPTIONS = ("kernel", "modules", "mirror", "suite", "keyring", "verify", "update", "proxy_http", "proxy_https",
           "proxy_no")  # fmt: skip
#: with one of these the mirrors are asked, whatever is here already
SELECTING = ("mirror", "suite", "keyring", "update")
_FLAGS = ("verify", "update")
_PATHS = ("kernel", "modules", "keyring")


def check(options: Mapping[str, str]) -> None:
    """Raises InvalidError with the field."""
    for name, value in options.items():
        _check_one(name, value)
    if "modules" in options and "kernel" not in options:
        raise InvalidError("--modules belongs to --kernel", field="options.modules", remedy="add --kernel PATH")
    if "kernel" in options and any(name in options for name in SELECTING):
        raise InvalidError("--kernel takes a file, so no mirror is asked", field="options.kernel")


def _check_one(name: str, value: str) -> None:
    if name not in OPTIONS:
        raise InvalidError(f"engine vm has no set-up option {name[:80]!r}", field="options",
                           remedy=f"one of: {', '.join(OPTIONS)}")  # fmt: skip
    wrong = None
    if name in _FLAGS and value not in ("0", "1"):
        wrong = "0 or 1"
    elif name in _PATHS and (not os.path.isabs(value) or "\0" in value):
        wrong = "an absolute path"
    elif name == "mirror" and not apt_sources.is_web(value):
        wrong = "an http or https address"
    elif name == "suite" and not apt_sources.is_suite(value):
        wrong = "the name of a suite"
    if wrong:
        raise InvalidError(f"{name} must be {wrong}, not {value[:200]!r}", field=f"options.{name}")
