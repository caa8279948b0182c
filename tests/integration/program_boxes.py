"""Sandboxes of each engine for tests with real programs, and the ways by which a program can be told of the door."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from cloche.sdk.values import ExecResult
from tests.integration.node_harness import namespace_home
from tests.integration.vm_node import vm_node_in

#: engines, as parameters of a fixture
BOXES = ("namespace", pytest.param("vm", marks=pytest.mark.slow))
WAYS = ("redirect", "proxy")
#: an emulated machine takes its time
TIMEOUT_SECONDS = 90
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NODE_USE_ENV_PROXY")
NO_PROXIES = ("env", *(f"--unset={name}" for name in _PROXIES))

Create = Callable[..., Sandbox]


@contextlib.contextmanager
def node_of(engine: str, request: pytest.FixtureRequest, home: Path, **settings: str) -> Iterator[Create]:
    """What makes sandboxes of this engine. Skips, with the reason, where it cannot."""
    if engine == "vm":
        place = request.getfixturevalue("vm_place")
        with vm_node_in(place, place.home(home), **settings) as node:
            yield node.create
    else:
        with namespace_home(home, **settings):
            yield Sandbox.create


def told(box: Sandbox, way: str, *argv: str, **env: str) -> ExecResult:
    """Run it with the variables that name a proxy ("proxy"), or without ("redirect")."""
    if way == "redirect" and not box.egress().transparent_tcp:
        pytest.skip("this engine cannot redirect connections here")
    prefix = NO_PROXIES if way == "redirect" else ()
    return box.exec(*prefix, *argv, env=env, timeout_seconds=TIMEOUT_SECONDS)


def need(box: Sandbox, *programs: str) -> None:
    """Skip where one of them is missing inside."""
    for program in programs:
        if box.exec("sh", "-c", 'command -v "$1"', "sh", program).exit_code:
            pytest.skip(f"{program} is not there: python3 dev.py test installs what the suite needs")
