"""A mirror of packages on the loopback, with a key of its own, that can be made to behave as badly as a mirror can."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import kernel_making

SUITE = "stable"
META = "linux-image-cloud-amd64"
#: gets a request and answers in its own way; False: as usual
Behaviour = Callable[[BaseHTTPRequestHandler], bool]


class Key:
    """An OpenPGP key; `keyring` is what a machine that trusts it has."""

    def __init__(self, place: Path) -> None:
        place.mkdir(mode=0o700)
        self._home, self.keyring = place, place / "trusted.gpg"
        self._gpg("--quick-generate-key", "test@example.invalid", "ed25519", "sign", "never")
        self.keyring.write_bytes(self._gpg("--export"))

    def sign(self, text: str) -> bytes:
        return self._gpg("--clearsign", input=text.encode())

    def armored(self) -> str:
        return self._gpg("--armor", "--export").decode()

    def fingerprint(self) -> str:
        lines = self._gpg("--with-colons", "--list-keys").decode().splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr"))

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=True)

    def _gpg(self, *arguments: str, input: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--pinentry-mode", "loopback",
                "--passphrase", "", *arguments]  # fmt: skip
        return subprocess.run(argv, input=input, capture_output=True, check=True).stdout


@contextlib.contextmanager
def key(place: Path) -> Iterator[Key]:
    """Skips where gpg or gpgv are missing."""
    for program in ("gpg", "gpg-agent", "gpgconf", "gpgv"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    made = Key(place)
    try:
        yield made
    finally:
        made.close()


class Mirror:
    """`files`: path → content. `asked`: (path, Range) of every request. `behave`: path → what else happens there."""

    def __init__(self, signing: Key) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.behave: dict[str, Behaviour] = {}
        self.released = threading.Event()
        self.signing = signing
        self.publish()

    def publish(
        self, release: str = kernel_making.RELEASE, version: str = "6.1.9-1", package: bytes | None = None,
        fields: str = "", valid: timedelta = timedelta(days=7),
    ) -> None:  # fmt: skip
        """Make everything that a suite consists of."""
        self.files.clear()
        content = package if package is not None else kernel_making.deb(kernel_making.package_files(release))
        self.deb = f"/pool/main/l/linux-image-{release}_{version}_amd64.deb"
        self.files[self.deb] = content
        text = f"Package: something\nVersion: 1\n\n{_meta(release, version)}\n"
        text += (
            f"Package: linux-image-{release}\nVersion: {version}\nFilename: {self.deb[1:]}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
        self.index(text, fields, valid)

    def index(self, packages: str, fields: str = "", valid: timedelta = timedelta(days=7)) -> None:
        packed = lzma.compress(packages.encode())
        digest = hashlib.sha256(packed).hexdigest()
        directory = f"/dists/{SUITE}/main/binary-amd64"
        self.packages = f"{directory}/by-hash/SHA256/{digest}"
        self.files[self.packages] = self.files[f"{directory}/Packages.xz"] = packed
        until = format_datetime(datetime.now(UTC) + valid)
        self.release(
            f"Suite: {SUITE}\nCodename: {SUITE}\nValid-Until: {until}\nAcquire-By-Hash: yes\n{fields}"
            f"SHA256:\n {digest} {len(packed)} main/binary-amd64/Packages.xz\n"
        )

    def release(self, text: str) -> None:
        self.in_release = f"/dists/{SUITE}/InRelease"
        self.files[self.in_release] = self.signing.sign(text)

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append((request.path, request.headers.get("Range", "")))
        behaviour = self.behave.get(request.path)
        if behaviour is None or not behaviour(request):
            self._serve_file(request)

    def _serve_file(self, request: BaseHTTPRequestHandler) -> None:
        content = self.files.get(request.path)
        if content is None:
            return request.send_error(404)
        begin = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        at = int(begin[1]) if begin else 0
        if begin and at >= len(content):
            return request.send_error(416)
        head(request, len(content) - at, 206 if begin else 200, f"bytes {at}-{len(content) - 1}/{len(content)}")
        request.wfile.write(content[at:])
        return None


def head(request: BaseHTTPRequestHandler, length: int | None, status: int = 200, content_range: str = "") -> None:
    request.send_response(status)
    if length is not None:
        request.send_header("Content-Length", str(length))
    if status == 206:
        request.send_header("Content-Range", content_range)
    request.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the test."""


@contextlib.contextmanager
def served(mirror: Mirror) -> Iterator[str]:
    """The mirror's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.serve(self)

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        mirror.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _meta(release: str, version: str) -> str:
    return (
        f"Package: {META}\nVersion: {version}\nDepends: linux-image-{release} (= {version})\n"
        f"Filename: pool/meta.deb\nSize: 1\nSHA256: {'0' * 64}\n"
    )
