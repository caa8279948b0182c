"""Cloche's own figures: the whole command line, the SDK against a warm node, and the bare launcher as the floor."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Action, Contestant, WrongResult, command

COMMAND = Path(sys.executable).parent / "cloche"


def ours() -> list[Contestant]:
    return [
        Contestant("cloche run -- true", "one command", _run),
        Contestant("cloche --help", "command line", _help),
        Contestant("python3 -c pass (its floor)", "command line", _python),
        Contestant("create, exec true, remove", "SDK, node warm", _create_exec_remove),
        Contestant("exec true in a running sandbox", "SDK, node warm", _exec),
        Contestant("write and read a 1 KiB file", "SDK, node warm", _files),
    ]


@contextlib.contextmanager
def _run() -> Iterator[Action]:
    yield command([str(COMMAND), "run", "--", "true"])


@contextlib.contextmanager
def _help() -> Iterator[Action]:
    yield command([str(COMMAND), "--help"])


@contextlib.contextmanager
def _python() -> Iterator[Action]:
    yield command([sys.executable, "-c", "pass"])


@contextlib.contextmanager
def _create_exec_remove() -> Iterator[Action]:
    from cloche import Sandbox

    def once() -> None:
        with Sandbox.create() as sandbox:
            _expect_success(sandbox.exec("true").exit_code)

    yield once


@contextlib.contextmanager
def _exec() -> Iterator[Action]:
    from cloche import Sandbox

    with Sandbox.create() as sandbox:
        yield lambda: _expect_success(sandbox.exec("true").exit_code)


@contextlib.contextmanager
def _files() -> Iterator[Action]:
    from cloche import Sandbox

    content = "x" * 1024
    with Sandbox.create() as sandbox:

        def once() -> None:
            sandbox.files.write("note.txt", content)
            if len(sandbox.files.read("note.txt")) != len(content):
                raise WrongResult("the file came back with another length")

        yield once


def _expect_success(exit_code: int | None) -> None:
    if exit_code:
        raise WrongResult(f"true ended with {exit_code}")
