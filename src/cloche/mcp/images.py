"""Which bytes are an image that a client can show.

What a sandbox calls an image is not believed: a client, or the model behind it, may refuse the whole conversation
because of one broken picture."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from cloche.mcp.answer import Image

#: of one image; and of one answer
MAX_BYTES = 4 << 20
MAX_IMAGES = 8
MAGIC_BYTES = 16
_SVG = re.compile(r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,2000}?-->\s*|<!DOCTYPE[^>]{0,500}>\s*)*<svg[\s>]", re.S)


def kind(data: bytes) -> str | None:
    """The MIME type by the first bytes: PNG, JPEG, GIF, WebP or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def of_bundle(data: Mapping[str, object]) -> Image | None:
    """The best picture of a MIME bundle: PNG, else JPEG, GIF, WebP, else SVG. None when there is none, or none that is
    what it says."""
    for name in ("image/png", "image/jpeg", "image/gif", "image/webp"):
        found = _decoded(data.get(name))
        if found is not None and kind(found) == name:
            return Image(name, found)
    drawn = data.get("image/svg+xml")
    if isinstance(drawn, str) and len(drawn) <= MAX_BYTES and _SVG.match(drawn):
        return Image("image/svg+xml", drawn.encode("utf-8", "replace"))
    return None


def _decoded(value: object) -> bytes | None:
    if isinstance(value, bytes):
        return value if len(value) <= MAX_BYTES else None
    if not isinstance(value, str) or len(value) > MAX_BYTES * 3 // 2:
        return None
    try:
        found = base64.b64decode(value)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) <= MAX_BYTES else None
