"""Whether QEMU is there and new enough, and otherwise how this machine gets one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from cloche.engines.vm import apt_sources

#: the first whose memory clones can map privately; older ones boot, and cannot clone, fork or suspend
WANTED = 10
VERSION_SECONDS = 10
_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
_VERSION = re.compile(r"QEMU emulator version (\d{1,4})\.(\d{1,4})")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def missing(root: Path, architecture: str, version: Callable[[str], str] | None = None) -> list[str]:
    """What the engine lacks beside its kernel: sentences, each with the command that mends it. [] when all is there."""
    program = f"qemu-system-{architecture}"
    found = _VERSION.search((version or said_version)(program))
    if found and int(found[1]) >= WANTED:
        return []
    how = how_to_get(os_release(root), architecture, own_mirror(root) or "<mirror>")
    if not found:
        return [f"{program} is not installed: {how}"]
    lost = "it starts machines, but cannot clone, fork or suspend them"
    return [f"QEMU {found[1]}.{found[2]} is older than {WANTED}: {lost}. Newer: {how}"]


def how_to_get(release: Mapping[str, str], architecture: str, mirror: str = "<mirror>") -> str:
    """The command that installs QEMU 10 on a system of this os-release ({} on macOS); otherwise what to look for."""
    package = _PACKAGES.get(architecture, "qemu-system")
    family = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    if not release:
        return "brew install qemu"
    if release.get("ID") == "debian" and release.get("VERSION_ID") == "12":
        return _from_backports(package, mirror)
    if "debian" in family or "ubuntu" in family:
        return f"sudo apt-get install --no-install-recommends {package}"
    if "fedora" in family or "rhel" in family:
        return f"sudo dnf install {package}-core"
    return f"install QEMU {WANTED} or newer by your system's packages"


def said_version(program: str) -> str:
    """What `--version` answers; "" when it is not there or does not."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=VERSION_SECONDS, text=True,
                              errors="replace", stdin=subprocess.DEVNULL)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[:500]


def os_release(root: Path = Path("/")) -> dict[str, str]:
    try:
        text = (root / "etc/os-release").read_text("utf-8", "replace")[: 64 << 10]
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip().strip("\"'") for name, sign, value in pairs if sign}


def backports(mirror: str, suite: str = "bookworm-backports") -> str:
    """The content of a source file for apt."""
    return f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n"


def _from_backports(package: str, mirror: str) -> str:
    content = backports(mirror).replace("\n", "\\n")
    return (
        f"printf '{content}' | sudo tee /etc/apt/sources.list.d/backports.sources && sudo apt-get update && "
        f"sudo apt-get install --no-install-recommends -t bookworm-backports {package}"
    )


def own_mirror(root: Path) -> str | None:
    """The one that the system itself comes from."""
    found = [source.uri for source in apt_sources.read(root) if source.suite in ("bookworm", "stable", "oldstable")]
    return found[0] if found else None
