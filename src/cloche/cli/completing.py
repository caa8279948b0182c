"""What a shell may complete. It runs at every press of Tab: nothing is started, nothing is imported that can be left
out, and whatever fails means no suggestion."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from cloche.cli.render import clean
from cloche.sdk.launch import default_home, socket_path

#: of silence, after which the node counts as none
SECONDS = 0.1
MAX_ANSWER_BYTES = 1 << 20
_REQUEST = "GET {} HTTP/1.1\r\nHost: cloche\r\nConnection: close\r\n\r\n"
_SANDBOXES = "/v1/sandboxes?limit=200"
_LEFT_OUT = ("stopping",)
#: the scripts pass suggestions on as unquoted words and lines
_FITS = re.compile(r"[\w.,:+=@%-]+")
#: words of a policy that go behind others
_PAIRS = [
    ("out=", "bytes out in all, such as 10m"), ("in=", "bytes in in all, such as 1g"),
    ("connections=", "how many at once"), ("rate=", "bytes a second, such as 5m/s"),
    ("accept=", "a sandbox that may connect, such as web:8000"),
]  # fmt: skip
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def attach(command: click.Command) -> None:
    """Let the parameters of `command` that name a sandbox, an image or an engine complete."""
    for leaf in getattr(command, "commands", {}).values():
        attach(leaf)
    for parameter in command.params:
        known = _BY_NAME.get((command.name or "", parameter.name or "")) or _BY_NAME.get(("", parameter.name or ""))
        if known is not None:
            parameter._custom_shell_complete = known


def preset_names() -> list[tuple[str, str]]:
    """(name, what it is for) of each preset; empty when no node runs or anything is wrong."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads(_ask(Path(os.path.abspath(default_home())), "/v1/egress/presets"))["presets"]
        return [(clean(each["name"]), clean(each.get("summary", ""))) for each in found]
    return []


def sandboxes() -> list[tuple[str, str]]:
    """(name or id, what it is) of each; empty when no node runs or anything is wrong."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads(_ask(Path(os.path.abspath(default_home())), _SANDBOXES))["sandboxes"]
        return [_described(each) for each in found if each["state"] not in _LEFT_OUT]
    return []


def _described(each: dict[str, Any]) -> tuple[str, str]:
    return clean(each.get("name") or each["id"]), f"{clean(each['state'])}, {clean(each['spec']['image'])}"


def _ask(home: Path, path: str) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
        connected.settimeout(SECONDS)
        connected.connect(str(socket_path(home)))
        connected.sendall(_REQUEST.format(path).encode())
        answer = b""
        while (part := connected.recv(1 << 16)) and len(answer) < MAX_ANSWER_BYTES:
            answer += part
    return answer.partition(b"\r\n\r\n")[2]


def _boxes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    chosen = context.params.get(parameter.name or "") or ()
    return [
        CompletionItem(name, help=what)
        for name, what in sandboxes()
        if name.startswith(incomplete) and name not in chosen
    ]


def _places(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """BOX: or a path of the host. Shells that are told to look for files themselves look for nothing else."""
    inside = [CompletionItem(f"{name}:", help=what) for name, what in sandboxes() if name.startswith(incomplete)]
    if not inside or not incomplete:
        return [CompletionItem(incomplete, type="file")]
    files = [name for name in sorted(os.listdir(".")) if name.startswith(incomplete) and _FITS.fullmatch(name)]
    return [*inside, *(CompletionItem(name) for name in files)]


def _files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=what) for name, what in preset_names() if name.startswith(incomplete)]


def _policies(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last of some words with commas, or a file."""
    if incomplete.startswith("@"):
        return [CompletionItem(incomplete, type="file")]
    before, comma, begun = incomplete.rpartition(",")
    whole = [] if comma else [("none", "nothing"), ("allow", "everything but this machine and its network")]
    known = [*whole, *preset_names(), *(_PAIRS if comma else [])]
    return [CompletionItem(f"{before}{comma}{name}", help=what) for name, what in known if name.startswith(begun)]


def _one_of(*values: str) -> Complete:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    return complete


_BY_NAME: dict[tuple[str, str], Complete] = {
    ("", "box"): _boxes,
    ("", "boxes"): _boxes,
    ("cp", "source"): _places,
    ("cp", "target"): _places,
    ("", "image"): _one_of("host"),
    ("", "engine"): _one_of("auto", "namespace", "vm"),
    ("", "net"): _policies,
    ("set", "policy"): _policies,
    ("", "words"): _presets,
    ("presets", "preset"): _presets,
    ("", "session_file"): _files,
    ("code", "file"): _files,
}
