"""Every setting of a node in one value, read once from the environment and the command line."""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Mapping
from typing import Literal, cast

import msgspec

from cloche.model.errors import InvalidError
from cloche.model.place import home_from

LogLevel = Literal["debug", "info", "warning", "error"]
DEFAULT_IDLE_SECONDS = 300.0
DEFAULT_POOL_MEMORY_MIB = 1024
MAX_POOL_SIZE, MAX_POOL_MEMORY_MIB = 1000, 1 << 24


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`idle_seconds` 0: never leave. `slow_callback_seconds` None: the event loop is not watched.
    `engine` is what "auto" means, or "auto" for the strongest that works here. `foreground`: somebody watches, so the
    log goes to stderr too. `also_listen`: a second socket. `stop_sandboxes`: what runs is stopped when it leaves.
    `resolver`, `upstream_ca`, `ingress_port`: of the door (egress/node_side/door_process.py).
    `pool_size`: how many plain sandboxes wait ready; `pool_memory_mib`: what all that wait may use together."""

    home: str
    idle_seconds: float = DEFAULT_IDLE_SECONDS
    engine: str = "auto"
    log_level: LogLevel = "info"
    slow_callback_seconds: float | None = None
    ready_fd: int | None = None
    detach: bool = False
    foreground: bool = False
    also_listen: str | None = None
    stop_sandboxes: bool = False
    pool_size: int = 0
    pool_memory_mib: int = DEFAULT_POOL_MEMORY_MIB
    resolver: str | None = None
    upstream_ca: str | None = None
    ingress_port: int = 0


def read_settings(arguments: list[str], environ: Mapping[str, str]) -> Settings:
    """The command line wins over CLOCHE_*. Raises InvalidError naming the variable; argparse exits with 2."""
    given = _parser().parse_args(arguments)
    home = given.home or home_from(environ, environ.get("HOME") or os.path.expanduser("~"))
    idle = given.idle_seconds if given.idle_seconds is not None else _seconds(environ, "CLOCHE_NODE_IDLE_SECONDS")
    return Settings(
        home=os.path.abspath(home),
        idle_seconds=DEFAULT_IDLE_SECONDS if idle is None else idle,
        engine=environ.get("CLOCHE_ENGINE") or "auto",
        log_level=_level(environ.get("CLOCHE_LOG_LEVEL") or "info"),
        slow_callback_seconds=_seconds(environ, "CLOCHE_NODE_SLOW_CALLBACK_SECONDS"),
        ready_fd=given.ready_fd,
        detach=given.detach,
        foreground=given.foreground,
        also_listen=os.path.abspath(given.also_listen) if given.also_listen else None,
        stop_sandboxes=given.stop_sandboxes,
        pool_size=_whole(environ, "CLOCHE_POOL_SIZE", 0, MAX_POOL_SIZE),
        pool_memory_mib=_whole(environ, "CLOCHE_POOL_MEMORY_MIB", DEFAULT_POOL_MEMORY_MIB, MAX_POOL_MEMORY_MIB),
        resolver=_resolver(environ.get("CLOCHE_DNS", "")),
        upstream_ca=_file(environ, "CLOCHE_UPSTREAM_CA"),
        ingress_port=_whole(environ, "CLOCHE_INGRESS_PORT", 0, 65535),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloche.node", description="Run the node of one data directory.")
    parser.add_argument("--home", help="the data directory (CLOCHE_HOME)")
    parser.add_argument("--idle-seconds", type=float, help="leave after so long without work; 0: never")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets one JSON line: ready, or why not")
    parser.add_argument("--detach", action="store_true", help="go to the background")
    parser.add_argument("--foreground", action="store_true", help="show the log on stderr, readable")
    parser.add_argument("--also-listen", metavar="PATH", help="answer on this unix socket too")
    parser.add_argument("--stop-sandboxes", action="store_true", help="stop what runs when leaving")
    return parser


def _seconds(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InvalidError(f"{name} must be a number of seconds, not {text!r}", field=name)
    return value


def _whole(environ: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environ.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise InvalidError(f"{name} must be a whole number from 0 to {most}, not {text!r}", field=name)
    return int(text)


def _resolver(text: str) -> str | None:
    """ "1.2.3.4:53", "[::1]:53", or an address alone, which means port 53."""
    if not text:
        return None
    host, _, port = (text, "", "53") if _is_ip(text) else text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (_is_ip(host) and port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        said = f"CLOCHE_DNS must be an address and a port such as 127.0.0.1:53, not {text!r}"
        raise InvalidError(said, field="CLOCHE_DNS")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _file(environ: Mapping[str, str], name: str) -> str | None:
    path = environ.get(name, "")
    if path and not os.path.isfile(path):
        raise InvalidError(f"{name} must name a file that is there, not {path!r}", field=name)
    return os.path.abspath(path) if path else None


def _level(text: str) -> LogLevel:
    level = text.lower()
    if level not in ("debug", "info", "warning", "error"):
        raise InvalidError(
            f"CLOCHE_LOG_LEVEL must be debug, info, warning or error, not {text!r}", field="CLOCHE_LOG_LEVEL"
        )
    return cast(LogLevel, level)
