"""The client of the network's benchmarks: only the standard library, as it runs in sandboxes and beside other proxies.

`python3 network_client.py '{"mode": …}'` prints one JSON object. Addresses are [host, port]; `proxy`: an HTTP proxy to
CONNECT through, or null. Modes: "latency" (`rounds` new connections, each until a line has come back), "bulk"
(`streams` connections side by side that bring `bytes` in all), "http" and "https" (GET of `bytes`; `name`: whose
certificate is expected), "hold" (`count` connections that stay open until the standard input ends)."""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import sys
import time
from typing import Any

PIECE = 1 << 20
Wanted = dict[str, Any]


def dial(wanted: Wanted) -> socket.socket:
    """A connection to the other side, through the proxy if there is one."""
    host, port = wanted["to"]
    if not wanted.get("proxy"):
        return socket.create_connection((host, port), 30)
    sock = socket.create_connection(tuple(wanted["proxy"]), 30)
    sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        more = sock.recv(4096)
        if not more:
            break
        head += more
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ConnectionError(head[:200])
    return sock


def latency(wanted: Wanted) -> dict[str, object]:
    return {"milliseconds": [_once(wanted) * 1000 for _ in range(wanted["rounds"])]}


def _once(wanted: Wanted) -> float:
    begin = time.perf_counter()
    with dial(wanted) as sock:
        sock.sendall(b"ECHO\n")
        if sock.recv(5) != b"ECHO\n":
            raise ConnectionError("no echo")
        return time.perf_counter() - begin


def bulk(wanted: Wanted) -> dict[str, object]:
    each = wanted["bytes"] // wanted["streams"]
    socks = [dial(wanted) for _ in range(wanted["streams"])]
    begin, seen = time.perf_counter(), 0
    with selectors.DefaultSelector() as ready:
        for sock in socks:
            sock.sendall(b"BULK %d\n" % each)
            ready.register(sock, selectors.EVENT_READ)
        piece = bytearray(PIECE)
        while ready.get_map():
            for key, _ in ready.select():
                count = key.fileobj.recv_into(piece)  # type: ignore[union-attr]
                seen += count
                if not count:
                    ready.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    return _rate(seen, time.perf_counter() - begin)


def http(wanted: Wanted) -> dict[str, object]:
    with dial(wanted) as sock:
        return _get(sock, wanted)


def https(wanted: Wanted) -> dict[str, object]:
    context = ssl.create_default_context(cafile=wanted.get("authorities"))
    with dial(wanted) as sock, context.wrap_socket(sock, server_hostname=wanted["name"]) as inner:
        return _get(inner, wanted)


def _get(sock: socket.socket, wanted: Wanted) -> dict[str, object]:
    host, port = wanted["to"]
    head = f"GET /bytes/{wanted['bytes']} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    begin = time.perf_counter()
    sock.sendall(head.encode())
    piece, seen = bytearray(PIECE), 0
    while count := sock.recv_into(piece):
        seen += count
    if seen < wanted["bytes"]:
        raise ConnectionError(f"only {seen} bytes came")
    return _rate(seen, time.perf_counter() - begin)


def _rate(seen: int, seconds: float) -> dict[str, object]:
    return {"bytes": seen, "mb_per_second": seen / seconds / 1e6}


def hold(wanted: Wanted) -> dict[str, object]:
    held = []
    for _ in range(wanted["count"]):
        sock = dial(wanted)
        sock.sendall(b"ECHO\n")
        sock.recv(5)
        held.append(sock)
    print(json.dumps({"held": len(held)}), flush=True)
    sys.stdin.read()
    return {"held": len(held)}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(
        json.dumps({"latency": latency, "bulk": bulk, "http": http, "https": https, "hold": hold}[asked["mode"]](asked))
    )
