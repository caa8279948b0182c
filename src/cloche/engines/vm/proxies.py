"""Which proxies a download goes through: those that the user names, else those of the environment, else apt's own."""

from __future__ import annotations

import shlex
import subprocess
import urllib.request
from collections.abc import Mapping

from cloche.engines.vm.apt_sources import is_web

APT_SECONDS = 5
_ASKED = {"http": "Acquire::http::Proxy", "https": "Acquire::https::Proxy"}


def chosen(options: Mapping[str, str]) -> dict[str, str] | None:
    """Scheme → URL, and "no" for the hosts that need none; None: as the environment says. `options`: of a set-up."""
    named = {name.removeprefix("proxy_"): options[name] for name in options if name.startswith("proxy_")}
    if named:
        return named
    return None if urllib.request.getproxies() else parse(_apt_config())


def parse(said: str) -> dict[str, str]:
    """From the answer of `apt-config shell`; what is no address, such as "DIRECT", is none."""
    try:
        words = shlex.split(said)
    except ValueError:
        return {}
    pairs = (word.partition("=") for word in words)
    return {name: value for name, _, value in pairs if name in _ASKED and is_web(value)}


def _apt_config() -> str:
    asked = [word for pair in _ASKED.items() for word in pair]
    try:
        done = subprocess.run(["apt-config", "shell", *asked], capture_output=True, text=True, timeout=APT_SECONDS,
                              errors="replace", stdin=subprocess.DEVNULL)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
