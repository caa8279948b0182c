"""One JSON request to a VMM's HTTP API on a unix socket. A VMM that was taken over may answer anything: an answer is
bounded in size and time, and what it says about a failure is cut before it goes into an error."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from cloche.channel.base import ByteStream
from cloche.channel.unix import UnixChannel
from cloche.http1 import Answer, ProtocolError, request_head
from cloche.model.errors import EngineError, SandboxDeadError

MAX_ANSWER_BYTES = 256 << 10
MAX_REASON_CHARS = 300
USUAL_SECONDS = 10.0


async def call(
    socket: Path, method: str, target: str, body: object = None, *, seconds: float = USUAL_SECONDS
) -> tuple[int, Any]:
    """The status, and the answer's JSON (None when it has no body). Raises SandboxDeadError when nobody answers,
    EngineError for what is no answer, or for none within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(socket, method, target, body)
    except TimeoutError as error:
        raise EngineError(f"the VMM did not answer {method} {target} within {seconds:g} s", stage="vmm_api") from error
    except OSError as error:
        raise SandboxDeadError(f"the VMM's connection broke: {error}", reason="guest_died") from error
    except (ProtocolError, msgspec.DecodeError) as error:
        raise EngineError(f"the VMM's answer to {method} {target} is none: {error}", stage="vmm_api") from error


def reason(answer: object, field: str) -> str:
    """What an error's body says, without what a terminal would obey."""
    said = answer.get(field) if isinstance(answer, dict) else None
    text = said if isinstance(said, str) else "it does not say why"
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_REASON_CHARS])


async def _exchange(socket: Path, method: str, target: str, body: object) -> tuple[int, Any]:
    channel = UnixChannel(socket)
    try:
        stream = await channel.open()
        await stream.write(_request(method, target, body))
        return await _answer(stream)
    finally:
        await channel.close()


def _request(method: str, target: str, body: object) -> bytes:
    headers = [(b"Host", b"localhost"), (b"Accept", b"application/json")]
    content = b"" if body is None else msgspec.json.encode(body)
    if content:
        headers += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(content))]
    return request_head(method, target.encode("ascii"), headers) + content


async def _answer(stream: ByteStream) -> tuple[int, Any]:
    answer, content = Answer(), bytearray()
    while not answer.complete:
        data = await stream.read(64 << 10)
        if not data:
            raise ConnectionResetError("it closed before it had answered")
        answer.feed(data)
        content += answer.take()
        if len(content) > MAX_ANSWER_BYTES:
            raise ProtocolError(f"more than {MAX_ANSWER_BYTES} bytes")
    return answer.status, msgspec.json.decode(content) if content else None
