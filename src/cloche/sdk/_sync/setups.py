# Made from ../_async/setups.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""The set-up of an engine, followed line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from cloche.model import errors
from cloche.sdk import wire
from cloche.sdk._sync.transport import Transport
from cloche.sdk.setups import SetupProgress
from cloche.sdk.wire import ConnectionLostError


def stream(transport: Transport, engine: str, options: Mapping[str, str]) -> Iterator[SetupProgress]:
    """Progress until it is done. Raises the error of the node; ConnectionLostError when the stream ends before."""
    path = f"/v1/engines/{wire.segment(engine)}/setup"
    reply = transport.open("POST", path, json={"options": dict(options)})
    buffer = b""
    try:
        for chunk in reply.chunks():
            *whole, buffer = (buffer + chunk).split(b"\n")
            for line in whole:
                if line == b'{"done":true}':
                    return
                if line.startswith(b'{"error":'):
                    raise errors.from_json(json.loads(line))
                if b'"keepalive"' not in line[:16]:
                    yield wire.decode(line, SetupProgress)
    finally:
        reply.close()
    raise ConnectionLostError("the node went away before the set-up was done", remedy=f"cloche setup {engine}")
