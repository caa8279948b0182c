"""The authority's certificate as guests get it, read without the library that signs with its key.

That library is a third of an idle door's memory, and most doors never end anybody's TLS. Whatever is odd about the file
is for `Authority.open` to say or to mend."""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n")
#: an authority lives for ten years; an old file is opened, and renewed there
_YOUNG_SECONDS = 9 * 365 * 24 * 3600
_MAX_BYTES = 64 << 10


def certificate_pem(home: Path) -> str | None:
    """None: there is none yet, or the file needs a closer look."""
    try:
        with open(home / "egress" / "authority.pem", "rb") as file:
            about = os.fstat(file.fileno())
            text = file.read(_MAX_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    private = stat.S_ISREG(about.st_mode) and not about.st_mode & 0o077 and about.st_uid == os.geteuid()
    found = _CERTIFICATE.search(text)
    if found is None or not private or "PRIVATE KEY" not in text or time.time() - about.st_mtime > _YOUNG_SECONDS:
        return None
    return found[0]
