"""What vfkit takes and refuses: its command line (pkg/cmdline, pkg/config of vfkit 0.6, and the options of
doc/usage.md and no others) and its REST service (pkg/rest)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from tests.contract import http

REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}
#: from which states a change is possible, and to which it leads
CHANGES = {
    "Pause": ({"Running"}, "Paused"),
    "Resume": ({"Paused"}, "Running"),
    "Stop": ({"Running"}, "Stopped"),
    "HardStop": ({"Running", "Paused"}, "Stopped"),
}


class RefusedError(Exception):
    """vfkit would end with this."""


class Parsed(msgspec.Struct, frozen=True):
    cpus: int
    memory_mib: int
    bootloader: dict[str, str]
    devices: list[tuple[str, dict[str, str]]]
    restful_path: str


def parse(argv: list[str]) -> Parsed:
    """Without the program. Raises RefusedError."""
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--memory", type=int, default=512)
    parser.add_argument("--bootloader", action="append", default=[])
    parser.add_argument("--device", action="append", default=[])
    parser.add_argument("--restful-uri", default="tcp://localhost:8081")
    try:
        options, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise RefusedError(str(error)) from error
    if rest or options.cpus < 1 or options.memory < 1:
        raise RefusedError(f"unknown or impossible: {rest}")
    words = [word for text in options.bootloader for word in _quoted_list(text)]
    devices = [_device(text.split(",")) for text in options.device]
    return Parsed(options.cpus, options.memory, _bootloader(words), devices, _restful(options.restful_uri))


def _quoted_list(text: str) -> list[str]:
    """The only argument in which quotes mean something."""
    words, quoted = [""], False
    for letter in text:
        quoted ^= letter == '"'
        if letter == "," and not quoted:
            words.append("")
        else:
            words[-1] += letter
    if quoted:
        raise RefusedError('mismatched "')
    return [_trimmed(word) for word in words]


def _trimmed(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word


def _bootloader(words: list[str]) -> dict[str, str]:
    if not words or words[0] != "linux":
        raise RefusedError(f"unknown bootloader type: {words[:1]}")
    found = {key: _trimmed(value) for key, value in _options(words[1:], {"kernel", "initrd", "cmdline"}).items()}
    if set(found) != {"kernel", "initrd", "cmdline"}:
        raise RefusedError("a kernel, an initrd and a command line belong together")
    return found


def _options(words: list[str], known: set[str]) -> dict[str, str]:
    found = dict(word.partition("=")[::2] for word in words if word)
    if unknown := set(found) - known:
        raise RefusedError(f"unknown options: {unknown}")
    return found


def _device(words: list[str]) -> tuple[str, dict[str, str]]:
    known: dict[str, tuple[set[str], set[str]]] = {
        "virtio-blk": ({"path", "deviceId"}, {"path"}),
        "virtio-vsock": ({"port", "socketURL", "listen", "connect"}, {"port", "socketURL"}),
        "virtio-serial": ({"logFilePath", "stdio"}, {"logFilePath"}),
        "virtio-rng": (set(), set()),
    }
    if words[0] not in known:
        raise RefusedError(f"unknown device type: {words[0]}")
    allowed, needed = known[words[0]]
    found = _options(words[1:], allowed)
    if not all(found.get(name) for name in needed) or {"listen", "connect"} <= set(found):
        raise RefusedError(f"{words[0]} needs {needed}")
    if "port" in found and not 0 < int(found["port"]) < 1 << 32:
        raise RefusedError("no port")
    return words[0], found


def _restful(uri: str) -> str:
    path = uri.removeprefix("unix://")
    if path == uri or not path.startswith("/"):
        raise RefusedError(f"invalid unix uri: {uri}")
    return path


class Vfkit:
    """The REST service of one vfkit: `async with` it. `state` may be set."""

    def __init__(self, socket: Path, state: str = "Running") -> None:
        self.socket, self.state = socket, state
        self.log: list[str] = []

    async def __aenter__(self) -> Vfkit:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            head, content = await http.request(reader)
            status, body = self._answer(f"{head.method.decode()} {head.target.decode()}", content)
            writer.write(http.answer(status, REASONS[status], body))
            await writer.drain()

    def _answer(self, what: str, content: bytes) -> tuple[int, Any]:
        self.log.append(what)
        if what == "GET /vm/state" and not content:
            return 200, {"state": f"VirtualMachineState{self.state}"}
        if what != "POST /vm/state":
            return 404, None
        try:
            body = msgspec.json.decode(content)
        except msgspec.DecodeError as error:
            return 400, {"error": str(error)}
        return self._change(body)

    def _change(self, body: Any) -> tuple[int, Any]:
        if not isinstance(body, dict) or set(body) != {"state"}:
            return 400, {"error": "Key: 'VMState.State' Error"}
        if body["state"] not in CHANGES:
            return 500, {"error": f"invalid new VMState: {body['state']}"}
        before, after = CHANGES[body["state"]]
        if self.state not in before:
            return 500, {"error": "Invalid virtual machine state transition"}
        self.state = after
        return 202, None
