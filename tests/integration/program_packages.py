"""Packages made by the tests, laid out as a server of files shows them to pip, npm and apt."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from tests.integration.test_mcp_network import wheel

NAME, VERSION = "cloche-greeting", "1.0"
SAID = "hello from a package"


def python_index(files: Path) -> None:
    """`/simple/`, with links that stay on the host."""
    data = wheel("greet", VERSION)
    name = f"greet-{VERSION}-py3-none-any.whl"
    (files / "simple" / "greet").mkdir(parents=True)
    (files / "simple" / name).write_bytes(data)
    link = f'<a href="../{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
    (files / "simple" / "greet" / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")


def npm_registry(files: Path, address: str) -> None:
    """Below `/npm/` of `address`, which packages are told by."""
    data = _tarball({"package.json": json.dumps({"name": NAME, "version": "1.0.0", "main": "index.js"}),
                     "index.js": f"module.exports = {json.dumps(SAID)}\n"})  # fmt: skip
    place = files / "npm"
    place.mkdir(exist_ok=True)
    (place / "package.tgz").write_bytes(data)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    dist = {"tarball": f"{address}/npm/package.tgz", "integrity": integrity}
    version = {"name": NAME, "version": "1.0.0", "dist": dist}
    document = {"name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (place / NAME).write_text(json.dumps(document))


def _tarball(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


def debian_repository(files: Path, scratch: Path) -> None:
    """`/debian/`, one directory without signatures. Needs dpkg-deb."""
    root, place = scratch / "package", files / "debian"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "opt").mkdir()
    (root / "opt" / "greeting").write_text(f"{SAID}\n")
    control = (
        f"Package: {NAME}\nVersion: {VERSION}\nArchitecture: all\nMaintainer: Tests <tests@example.invalid>\n"
        "Description: a greeting\n"
    )
    (root / "DEBIAN" / "control").write_text(control)
    place.mkdir()
    made = place / f"{NAME}.deb"
    argv = ["dpkg-deb", "--build", "--root-owner-group", str(root), str(made)]
    subprocess.run(argv, check=True, capture_output=True)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    found = f"{control}Filename: ./{made.name}\nSize: {made.stat().st_size}\nSHA256: {digest}\n"
    (place / "Packages").write_text(found)
