"""Servers that nginx is not: git's own over HTTP, and one that speaks WebSocket."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    project_root = ""

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that do not trust it, or are cut, go away."""


class _Git(http.server.BaseHTTPRequestHandler):
    """`git http-backend` as a CGI program, as its manual says."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            ["git", "http-backend"], input=self._body(), capture_output=True, check=True, env=self._cgi(path, query)
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = [line.decode().split(": ", 1) for line in head.split(b"\r\n")]
        status = next((value for name, value in fields if name == "Status"), "200")
        self.send_response(int(status[:3]))
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def _cgi(self, path: str, query: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.server.project_root, "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "tests",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_ADDR": "127.0.0.1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "HOME": self.server.project_root,
            # the repository may belong to somebody else than who runs the tests
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(_chunks(self.rfile))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def log_message(self, format: str, *args: object) -> None:
        pass


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while size := int(file.readline().partition(b";")[0], 16):
        yield file.read(size)
        file.readline()
    file.readline()


class _WebSocket(http.server.BaseHTTPRequestHandler):
    """Sends every frame back, unmasked, until one closes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + _MAGIC).encode()).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
        self.end_headers()
        self.close_connection = True
        while True:
            first, length = self.rfile.read(2)
            length &= 127
            if length == 126:
                length = int.from_bytes(self.rfile.read(2), "big")
            mask, data = self.rfile.read(4), self.rfile.read(length)
            plain = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
            size = bytes([len(plain)]) if len(plain) < 126 else b"\x7e" + len(plain).to_bytes(2, "big")
            self.wfile.write(bytes([first]) + size + plain)
            if first & 15 == 8:
                return

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def _serving(handler: type, context: ssl.SSLContext | None, project_root: str = "") -> Iterator[int]:
    with _Server(("127.0.0.1", 0), handler) as server:
        server.project_root = project_root
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def git_server(repositories: Path, context: ssl.SSLContext | None) -> contextlib.AbstractContextManager[int]:
    """Its port. Whoever comes may push to the repositories that say so."""
    return _serving(_Git, context, str(repositories))


def websocket_server(context: ssl.SSLContext | None) -> contextlib.AbstractContextManager[int]:
    return _serving(_WebSocket, context)
