"""The index of Python packages that this machine's pip is configured for, whichever that is."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from urllib.parse import urljoin, urlsplit

import pytest

_BUILT_IN = "from pip._internal.cli.cmdoptions import index_url; print(index_url().default)"


def configured_index() -> str:
    """Of the pip that belongs to the tests' Python, or of the machine's. Skips where there is none."""
    # a .venv that dev.py made by Debian's Python has no pip, and comes first in PATH
    for python in (sys.executable, "python3", "/usr/bin/python3"):
        for argv in (("-m", "pip", "config", "get", "global.index-url"), ("-c", _BUILT_IN)):
            found = subprocess.run([python, *argv], capture_output=True, text=True)
            if found.returncode == 0 and found.stdout.strip():
                return found.stdout.strip().rstrip("/") + "/"
    pytest.skip("this machine has no pip")


def hosts_of(index: str, package: str) -> list[str]:
    """Of the index and of its files, with their ports where they are told. Skips where it cannot be reached by TLS."""
    page = urljoin(index, f"{package}/")
    try:
        with urllib.request.urlopen(page, timeout=20) as answer:
            text = answer.read(4 << 20).decode(errors="replace")
    except (OSError, ValueError) as error:
        pytest.skip(f"the index that pip is configured for cannot be reached: {error}")
    links = [page, *(urljoin(page, link) for link in re.findall(r'href="([^"#]+)', text))]
    found = sorted({place.netloc for link in links if (place := urlsplit(link)).scheme == "https"})
    if not found:
        pytest.skip("the index that pip is configured for is not asked by TLS")
    return found
