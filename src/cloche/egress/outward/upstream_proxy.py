"""The proxy through which this machine reaches the world, where its environment names one (HTTPS_PROXY and the like).

Behind such a proxy, names are the proxy's to resolve, so what a name turns out to be is not known here, and nobody
checks it: addresses are, and names that the environment excludes (NO_PROXY) are reached directly, with all checks."""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from cloche.egress.hooks import DialError
from cloche.egress.outward.sockets import SocketStream

_MAX_ANSWER_BYTES = 16 << 10
_DEFAULT_PORT = 8080
_NAMES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class Proxy:
    """`authorization`: the value of Proxy-Authorization, None where the URL has no user."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


class UpstreamProxies:
    """Which proxy is for which destination. What the environment says wrong is reported when it is needed."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._urls = {name: _value(environment, name) for name in _NAMES}
        excluded = self._urls.pop("no_proxy", "") or ""
        self._excluded = [entry.strip().lower() for entry in excluded.split(",") if entry.strip()]

    def proxy_for(self, host: str, port: int, protocol: str) -> Proxy | None:
        """`protocol`: "tls", "http", "tcp" or "" (not known yet). None: reach it directly. Raises DialError for a
        setting that cannot be used."""
        kind = "http_proxy" if protocol == "http" else "https_proxy" if protocol == "tls" or port == 443 else ""
        url = self._urls.get(kind) or self._urls["all_proxy"]
        if not url or any(_excludes(entry, host, port) for entry in self._excluded):
            return None
        return _parse(url)


async def tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int) -> SocketStream:
    """A stream to `host` through a connection to `proxy`. Raises DialError with what the proxy says."""
    stream = SocketStream(sock)
    try:
        await stream.write(_request(proxy, host, port))
        status = await _answered(stream)
    except ConnectionError as error:
        raise DialError("the upstream proxy has closed the connection") from error
    if status != 200:
        raise DialError(f"the upstream proxy answered {status}")
    return stream


async def _answered(stream: SocketStream) -> int:
    while (end := stream.peeked.find(b"\r\n\r\n")) < 0:
        if len(stream.peeked) > _MAX_ANSWER_BYTES or not await stream.peek_more():
            raise DialError("the upstream proxy did not answer in HTTP")
    head = await stream.peek_exactly(end + 4)
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or len(words[1]) != 3:
        raise DialError("the upstream proxy did not answer in HTTP")
    return int(words[1])


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    site = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {site} HTTP/1.1", f"Host: {site}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _value(environment: Mapping[str, str], name: str) -> str | None:
    """Lower case wins, as with other programs; HTTP_PROXY in upper case counts too, for nobody sends us headers."""
    return environment.get(name) or environment.get(name.upper()) or None


def _parse(url: str) -> Proxy:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        host, port, parts = None, 0, SplitResult("", "", "", "", "")
    if not host or parts.scheme != "http":
        raise DialError("the upstream proxy in the node's environment is no http:// URL")
    return Proxy(host, port, _authorization(parts))


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _excludes(entry: str, host: str, port: int) -> bool:
    entry, _, only_port = entry.rpartition(":") if _has_port(entry) else (entry, "", "")
    if only_port and int(only_port) != port:
        return False
    if entry == "*":
        return True
    within = _range(entry)
    if within is not None:
        return _is_within(host, within)
    suffix = entry.removeprefix("*").removeprefix(".")
    return bool(suffix) and (host == suffix or host.endswith("." + suffix))


def _has_port(entry: str) -> bool:
    name, colon, port = entry.rpartition(":")
    return bool(colon) and port.isdigit() and (":" not in name or name.endswith("]"))


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _range(entry: str) -> _Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None


def _is_within(host: str, network: _Network) -> bool:
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
