"""Write docs/reference/cli.md and sdk.md from the commands and docstrings themselves.

`python scripts/generate_reference.py` writes, with `--check` it only says what is stale."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import cloche  # noqa: E402
from cloche.cli.main import COMMANDS, cli  # noqa: E402
from cloche.sdk import code_options, options  # noqa: E402

OUT = ROOT / "docs" / "reference"
NOTE = "<!-- Made by scripts/generate_reference.py: edit the docstrings. -->\n"
CLASSES = ("Sandbox", "Process", "Context", "CodeStream", "Forward", "Tunnel", "Node")


def documents() -> dict[Path, str]:
    """Path → text."""
    return {OUT / "cli.md": cli_page(), OUT / "sdk.md": sdk_page()}


def cli_page() -> str:
    parts = [
        NOTE,
        "# Command line\n",
        "Exit statuses: the command's own for `run` and `exec`; 124 timeout, 125 Cloche "
        "failed, 126 cannot execute, 127 not found. Data goes to stdout, everything else to stderr.\n",
    ]
    context = click.Context(cli, info_name="cloche")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts += _command(command, context)
    return "\n".join(parts)


def sdk_page() -> str:
    parts = [
        NOTE,
        "# Python SDK\n",
        "`from cloche import …`. Each class has a twin (`AsyncSandbox`, `AsyncNode` …) of the "
        "same shape for `await`, `async with` and `async for`.\n",
    ]
    for name in CLASSES:
        parts += _class(name, getattr(cloche, name))
        if name == "Sandbox":
            from cloche.sdk._sync.contexts import Contexts
            from cloche.sdk._sync.files import Files

            parts += _options()
            parts += _class("Sandbox.files", Files)
            parts += _class("Sandbox.contexts", Contexts)
        if name == "Node":
            from cloche.sdk._sync.snapshots import Snapshots

            parts += _class("Node.snapshots", Snapshots)
    parts += ["## Values\n"]
    parts += [
        f"### {name}\n\n{_doc(getattr(cloche, name))}\n"
        for name in (
            "ExecResult",
            "Output",
            "Gap",
            "Exited",
            "Execution",
            "Result",
            "CodeFailure",
            "ContextInfo",
            "CodeOutput",
            "CodeResult",
            "CodeError",
            "CodeGap",
            "CodeEnded",
            "CopyReport",
            "SandboxInfo",
            "SnapshotInfo",
            "SandboxStats",
            "ProcessInfo",
            "Usage",
            "FileInfo",
            "WatchEvent",
            "Mount",
            "EgressPolicy",
            "EgressRule",
            "EgressBudget",
            "AcceptRule",
            "Secret",
            "SecretSource",
            "EgressInfo",
            "SuggestionInfo",
            "AuditLine",
            "Ask",
            "Publication",
        )
    ]
    parts += ["## Errors\n", "| class | code | meaning |\n| --- | --- | --- |"]
    public = [getattr(cloche, name) for name in sorted(cloche.__all__)]
    errors = [found for found in public if isinstance(found, type) and issubclass(found, Exception)]
    parts += [f"| `{error.__name__}` | {_code(error)} | {_doc(error)} |" for error in errors]
    return "\n".join(parts) + "\n"


def _command(command: click.Command, parent: click.Context) -> Iterator[str]:
    with click.Context(command, info_name=command.name, parent=parent, help_option_names=["-h", "--help"]) as context:
        context.terminal_width = 100
        formatter = click.HelpFormatter(width=100)
        command.format_help(context, formatter)
        yield f"## {context.command_path}\n\n```text\n{formatter.getvalue().rstrip()}\n```\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from _command(found, context)


def _class(name: str, found: type[Any]) -> Iterator[str]:
    yield f"## {name}\n\n{_doc(found)}\n"
    for member, value in _members(found).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property | functools.cached_property):
            yield f"### {name}.{member}\n\n{_doc(value)}\n"
        elif isinstance(value, classmethod | staticmethod):
            yield _method(name, member, value.__func__)
        elif callable(value):
            yield _method(name, member, value)


def _members(found: type[Any]) -> dict[str, Any]:
    """Its own, then those of the classes that it is made of."""
    members: dict[str, Any] = {}
    for owner in found.__mro__[:-1]:
        members = {**members, **{name: value for name, value in vars(owner).items() if name not in members}}
    return members


def _method(name: str, member: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    parameters = [value for key, value in signature.parameters.items() if key not in ("self", "cls")]
    shown = str(signature.replace(parameters=parameters)).replace("'", "")
    return f"### {name}.{member}\n\n```python\n{member}{shown}\n```\n\n{_doc(function)}\n"


def _options() -> Iterator[str]:
    for name, found in (
        ("create", options.SandboxOptions),
        ("exec, spawn and pty", options.ProcessOptions),
        ("run_code and stream_code", code_options.CodeOptions),
        ("contexts.create", code_options.ContextOptions),
    ):
        rows = [f"| `{key}` | `{_type(value)}` |" for key, value in found.__annotations__.items()]
        yield f"### Options of {name}\n\n{_doc(found)}\n\n| option | type |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def _type(value: Any) -> str:
    return str(getattr(value, "__forward_arg__", value)).replace("|", "\\|")


def _doc(found: object) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(found) or "").strip()


def _code(error: type[Exception]) -> str:
    code = getattr(error, "code", None)
    return f"`{code}`" if code else "-"


def main() -> int:
    stale = [path for path, text in documents().items() if not path.exists() or path.read_text() != text]
    OUT.mkdir(parents=True, exist_ok=True)
    for path in stale if "--check" not in sys.argv else []:
        path.write_text(documents()[path])
    for path in stale:
        print(f"{'stale' if '--check' in sys.argv else 'wrote'}: {path.name}", file=sys.stderr)
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
