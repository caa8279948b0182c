"""A node in miniature for tests of its clients: sandboxes are rows, and their processes run on this machine.

It speaks docs/api.md as far as the tests need it, and breaks its streams when it is told to.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socketserver
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

HEADER = struct.Struct(">B3xIQ")
ID = "sb_01k0000000000000000000000"


class StubProcess:
    def __init__(self, number: int, spec: dict[str, Any]) -> None:
        self.id = f"p_{number:026d}"
        self.spec = spec
        self.started_at = time.time()
        self.kept = {2: bytearray(), 3: bytearray()}
        self.changed = threading.Condition()
        self.exit: dict[str, Any] | None = None
        self.accepted = 0
        try:
            pipe = subprocess.PIPE
            stdin = pipe if spec.get("stdin") else subprocess.DEVNULL
            self.real = subprocess.Popen(
                spec["argv"],
                stdin=stdin,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
                env={**os.environ, **spec.get("env", {})},
            )
        except OSError as error:
            self.exit = {"exit_code": 127, "error": str(error)}
            return
        readers = [threading.Thread(target=self._read, args=(kind,), daemon=True) for kind in (2, 3)]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._wait, args=(readers,), daemon=True).start()

    def info(self) -> dict[str, Any]:
        running = {"id": self.id, "pid": 7, "argv": self.spec["argv"], "started_at": self.started_at}
        if self.exit is None:
            return {**running, "state": "running"}
        return {**running, "state": "exited", "usage": {"cpu_seconds": 0.01, "wall_seconds": 0.02}, **self.exit}

    def frames(self, offsets: dict[int, int], follow: bool) -> Any:
        while True:
            with self.changed:
                for kind, kept in self.kept.items():
                    piece = bytes(kept[offsets[kind] : offsets[kind] + 65536])
                    if piece:
                        yield frame(kind, piece, offsets[kind])
                        offsets[kind] += len(piece)
                        break
                else:
                    if self.exit is not None:
                        yield frame(5, json.dumps(self.info()).encode())
                        return
                    if not follow:
                        return
                    self.changed.wait()

    def _read(self, kind: int) -> None:
        stream = self.real.stdout if kind == 2 else self.real.stderr
        assert stream is not None
        while piece := os.read(stream.fileno(), 65536):
            with self.changed:
                self.kept[kind] += piece
                self.changed.notify_all()

    def _wait(self, readers: list[threading.Thread]) -> None:
        code = self.real.wait()
        for reader in readers:
            reader.join()
        with self.changed:
            self.exit = {"exit_code": code if code >= 0 else 128 - code, "signal": -code if code < 0 else None}
            self.changed.notify_all()


def frame(kind: int, payload: bytes, offset: int = 0) -> bytes:
    return HEADER.pack(kind, len(payload), offset) + payload


class StubNode:
    """Listens on `home`/node.sock until `close`. `cut`: streams still to be broken after their first output."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.sandboxes: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, StubProcess] = {}
        self.requests: list[tuple[str, str]] = []
        self.answers: dict[tuple[str, str], Any] = {}
        self.files: dict[str, bytes] = {}
        self.tars: dict[str, bytes] = {}
        self.cut = 0
        self.on_create: Callable[[], None] = lambda: None
        node = self

        class Handler(_Handler):
            stub = node

        self.server = _Server(str(home / "node.sock"), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for process in self.processes.values():
            # it may have ended without having been waited for yet
            with contextlib.suppress(ProcessLookupError):
                if process.exit is None:
                    os.killpg(process.real.pid, signal.SIGKILL)

    def asked(self, method: str) -> list[str]:
        return [path for verb, path in self.requests if verb == method]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 32

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in mid-stream are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    stub: StubNode
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        self.take()

    do_POST = do_PUT = do_DELETE = do_GET

    def take(self) -> None:
        parts = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, errors="surrogateescape").items()}
        self.body = self.read_body()
        self.stub.requests.append((self.command, self.path))
        canned = self.stub.answers.get((self.command, parts.path))
        if callable(canned):
            return canned(self)
        if canned:
            return self.reply(*canned)
        for pattern, name in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {parts.path}"):
                getattr(self, name)(*found.groups())
                return None
        return self.fail(404, "not_found", f"no route {self.path}")

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def reply(self, status: int, value: Any) -> None:
        data = value if isinstance(value, bytes) else b"" if status == 204 else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Cloche-Api-Version", "1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def fail(self, status: int, code: str, message: str) -> None:
        self.reply(status, {"error": {"code": code, "message": message, "remedy": "look again"}})

    def create(self) -> None:
        spec = json.loads(self.body)
        spec.pop("session", None)
        name = f"{ID}{len(self.stub.sandboxes)}"
        self.stub.sandboxes[name] = {
            "id": name, "project_id": "default", "name": spec.get("name"), "state": "running", "reason": None,
            "engine": "stub", "isolation": "none", "spec": spec, "limits_unenforced": [],
            "limits": {"memory_mib": 512, "cpus": 1.0, "pids": 256, "disk_mib": 1024, "open_files": 4096},
            "labels": spec.get("labels", {}), "created_at": time.time(), "started_at": time.time(),
            "expires_at": None, "stopped_at": None,
        }  # fmt: skip
        self.stub.on_create()
        self.reply(201, self.stub.sandboxes[name])

    def listing(self) -> None:
        wanted = [entry.partition("=") for entry in parse_qs(urlsplit(self.path).query).get("label", [])]
        found = [
            box
            for box in self.stub.sandboxes.values()
            if all(
                key in box["labels"] and (not equals or box["labels"][key] == value) for key, equals, value in wanted
            )
        ]
        self.reply(200, {"sandboxes": found, "next_cursor": None})

    def one(self, ref: str) -> None:
        box = self.box(ref)
        self.reply(200, box) if box else self.fail(404, "not_found", f"no sandbox {ref}")

    def delete(self, ref: str) -> None:
        box = self.box(ref)
        if box is None:
            return self.fail(404, "not_found", f"no sandbox {ref}")
        del self.stub.sandboxes[box["id"]]
        return self.reply(204, b"")

    def box(self, ref: str) -> dict[str, Any] | None:
        return next((box for box in self.stub.sandboxes.values() if ref in (box["id"], box["name"])), None)

    def spawn(self, ref: str) -> None:
        process = StubProcess(len(self.stub.processes), json.loads(self.body))
        self.stub.processes[process.id] = process
        if "follow" not in self.query:
            return self.reply(201, process.info())
        return self.stream(process, frame(1, json.dumps(process.info()).encode()), {2: 0, 3: 0}, True)

    def processes(self, ref: str) -> None:
        self.reply(200, {"processes": [process.info() for process in self.stub.processes.values()]})

    def process(self, ref: str, name: str) -> None:
        self.reply(200, self.stub.processes[name].info())

    def output(self, ref: str, name: str) -> None:
        offsets = {2: int(self.query["stdout_offset"]), 3: int(self.query["stderr_offset"])}
        self.stream(self.stub.processes[name], b"", offsets, self.query["follow"] == "1")

    def stream(self, process: StubProcess, first: bytes, offsets: dict[int, int], follow: bool) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(first)
        for piece in process.frames(offsets, follow):
            if self.stub.cut and piece[0] in (2, 3):
                self.stub.cut -= 1
                self.chunk(piece[: len(piece) // 2])
                self.close_connection = True
                return
            self.chunk(piece)
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def stdin(self, ref: str, name: str) -> None:
        process = self.stub.processes[name]
        skip = process.accepted - int(self.query["offset"])
        assert process.real.stdin is not None
        process.real.stdin.write(self.body[skip:])
        process.real.stdin.flush()
        process.accepted += len(self.body) - skip
        self.reply(200, {"offset": process.accepted})

    def stdin_close(self, ref: str, name: str) -> None:
        stdin = self.stub.processes[name].real.stdin
        assert stdin is not None
        stdin.close()
        self.reply(204, b"")

    def signal(self, ref: str, name: str) -> None:
        wanted = json.loads(self.body)["signal"]
        number = wanted if isinstance(wanted, int) else getattr(signal, f"SIG{wanted}")
        process = self.stub.processes[name]
        if process.exit is not None:
            return self.fail(409, "wrong_state", "it has exited")
        os.killpg(process.real.pid, number)
        return self.reply(204, b"")

    def wait(self, ref: str, name: str) -> None:
        process, seconds = self.stub.processes[name], float(self.query["timeout_seconds"])
        with process.changed:
            process.changed.wait_for(lambda: process.exit is not None, seconds)
        self.reply(200, process.info())

    def read(self, ref: str) -> None:
        path = self.query["path"]
        if path not in self.stub.files:
            return self.fail(404, "not_found", f"no file {path}")
        return self.reply(200, self.stub.files[path])

    def write(self, ref: str) -> None:
        path = self.query["path"]
        self.stub.files[path] = self.body
        self.reply(200, self.file(path))

    def stat(self, ref: str) -> None:
        path = self.query["path"]
        if path in self.stub.files or path in self.stub.tars:
            return self.reply(200, self.file(path))
        return self.fail(404, "not_found", f"no file {path}")

    def tar_out(self, ref: str) -> None:
        self.reply(200, self.stub.tars[self.query["path"]])

    def tar_in(self, ref: str) -> None:
        self.stub.tars[self.query["path"]] = self.body
        self.reply(200, {"files": 1, "bytes": len(self.body)})

    def file(self, path: str) -> dict[str, Any]:
        kind = "directory" if path in self.stub.tars else "file"
        size = len(self.stub.files.get(path, b""))
        return {
            "path": path,
            "name": path.rsplit("/", 1)[-1],
            "type": kind,
            "size": size,
            "mode": 0o644,
            "uid": 1000,
            "gid": 1000,
            "modified_at": 1.0,
        }


_BOX = "/v1/sandboxes/([^/]+)"
_ONE = f"{_BOX}/processes/([^/]+)"
ROUTES = [
    ("POST /v1/sandboxes", "create"),
    ("GET /v1/sandboxes", "listing"),
    (f"GET {_BOX}", "one"),
    (f"DELETE {_BOX}", "delete"),
    (f"POST {_BOX}/processes", "spawn"),
    (f"GET {_BOX}/processes", "processes"),
    (f"GET {_ONE}", "process"),
    (f"GET {_ONE}/output", "output"),
    (f"GET {_ONE}/wait", "wait"),
    (f"POST {_ONE}/stdin", "stdin"),
    (f"POST {_ONE}/stdin/close", "stdin_close"),
    (f"POST {_ONE}/signal", "signal"),
    (f"GET {_BOX}/files/content", "read"),
    (f"PUT {_BOX}/files/content", "write"),
    (f"GET {_BOX}/files/stat", "stat"),
    (f"GET {_BOX}/files/tar", "tar_out"),
    (f"PUT {_BOX}/files/tar", "tar_in"),
]
