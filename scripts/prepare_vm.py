"""Get ready what the tests of the vm engine use: QEMU (as root, by apt) and a kernel in .cache/vm-assets.

Run by `dev.py test` and `dev.py setup`; what cannot be had is said, and its tests skip. Twice does no harm."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cloche.engines.base import Progress
from cloche.engines.vm import assets, qemu_hint, setup
from cloche.model.errors import ClocheError

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "vm-assets"
GUEST = ROOT / "src" / "cloche" / "_bin" / "cloche-guest"
SOURCE = Path("/etc/apt/sources.list.d/cloche-backports.sources")
PACKAGES = {"x86_64": ["qemu-system-x86"], "aarch64": ["qemu-system-arm", "qemu-efi-aarch64"]}


def qemu() -> None:
    """Install QEMU where root and apt can, from backports on Debian 12; an older one stays where there is no newer."""
    machine = os.uname().machine
    found = re.search(r"version (\d+)", qemu_hint.said_version(f"qemu-system-{machine}"))
    if found and int(found[1]) >= qemu_hint.WANTED:
        return
    release = qemu_hint.os_release()
    backports = release.get("ID") == "debian" and release.get("VERSION_ID") == "12"
    if os.geteuid() != 0 or not shutil.which("apt-get") or machine not in PACKAGES or (found and not backports):
        say("; ".join(qemu_hint.missing(Path("/"), machine)))
        return
    say("installing QEMU")
    target = ["-t", "bookworm-backports"] if backports and add_backports() else []
    apt("update")
    apt("install", "-y", "--no-install-recommends", *target, *PACKAGES[machine])


def add_backports() -> bool:
    """Whether apt knows backports, from the mirror that the system itself comes from."""
    mirror = qemu_hint.own_mirror(Path("/"))
    if mirror is None:
        say("no mirror of Debian is named in this machine's apt sources, so there is none of backports")
        return False
    if not SOURCE.exists():
        SOURCE.write_text(qemu_hint.backports(mirror))
    return True


def apt(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", "-qq", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        say(f"apt-get {' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")


def kernel() -> None:
    if assets.find(CACHE):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    say("fetching a kernel for the tests of the vm engine")
    try:
        asyncio.run(setup.setup(CACHE, GUEST, {}, tell))
    except ClocheError as error:
        say(f"no kernel, so the tests that boot one skip: {error.message}")


def tell(step: Progress) -> None:
    if not step.total and step.step != "qemu":
        say(f"{step.step}: {step.summary}")


def say(text: str) -> None:
    if text:
        print(f"• {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    qemu()
    kernel()
