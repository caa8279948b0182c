"""What the tests of code contexts share: languages that may be missing, and a client that can be signalled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from cloche import Context, Execution, Sandbox
from cloche.model.code import Language

CLIENT = """
import os, sys
from cloche import Sandbox
box = Sandbox.from_id(sys.argv[1])
box.run_code(sys.argv[2], on_disconnect=sys.argv[3], on_stdout=lambda text: os.write(1, text.encode()))
"""


def need(sandbox: Sandbox, language: Language) -> None:
    if language not in sandbox.contexts.languages():
        pytest.skip(f"this machine has no interpreter of {language}, so the image host has none")


def client(sandbox: Sandbox, code: str, on_disconnect: str = "interrupt") -> subprocess.Popen[bytes]:
    """A process of its own that runs the code and passes on what it prints."""
    argv = [sys.executable, "-c", CLIENT, sandbox.id, code, on_disconnect]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def default(sandbox: Sandbox) -> Context:
    """The one context that there is."""
    (found,) = sandbox.contexts.list()
    return found


def once(action: Callable[[], object]) -> Callable[[str], None]:
    """A callback that acts the first time only."""
    done: list[bool] = []

    def told(text: str) -> None:
        if not done:
            done.append(True)
            action()

    return told


def well(sandbox: Sandbox) -> Execution:
    """The default Python context answers as it should."""
    done = sandbox.run_code("print('well'); 6 * 7")
    # a child of earlier code may still say something
    assert (done.status, done.stdout[-5:], done.text) == ("ok", "well\n", "42"), done
    return done
