"""Get ready a small Debian for the tests that run a whole root filesystem: .cache/debian-root.

Run by `dev.py test` and `dev.py setup` as root on Debian, from the mirror that the system itself comes from. What
cannot be had is said, and its tests skip. Twice does no harm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cloche.engines.vm import qemu_hint

PLACE = Path(__file__).resolve().parents[1] / ".cache" / "debian-root"
SUITE = "bookworm"
SECONDS = "600"
#: what nobody reads in a test, and would be copied into its image
LEFT_OUT = ("doc", "man", "locale", "info")


def debian_root() -> None:
    if PLACE.exists():
        return None
    mirror = qemu_hint.own_mirror(Path("/"))
    if os.geteuid() != 0 or not shutil.which("mmdebstrap") or mirror is None:
        return say("no Debian root, so the tests in one skip: it takes root, mmdebstrap and apt sources of Debian 12")
    say("making a Debian root for the tests")
    half = PLACE.with_name(f"{PLACE.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    half.parent.mkdir(exist_ok=True)
    done = subprocess.run(command(half, mirror), capture_output=True, text=True)
    if done.returncode:
        return say(f"no Debian root, so the tests in one skip; mmdebstrap failed: {done.stderr.strip()[-500:]}")
    half.rename(PLACE)
    return None


def command(target: Path, mirror: str) -> list[str]:
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
    return [
        "timeout",
        SECONDS,
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
        *left_out,
        SUITE,
        str(target),
        mirror,
    ]


def say(text: str) -> None:
    print(f"• {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    debian_root()
