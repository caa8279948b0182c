"""The typed client of a guest. Nothing that it returns is unchecked: the guest shares a sandbox with hostile code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from cloche.channel.base import ByteStream
from cloche.guest_api import bounds
from cloche.guest_api.contexts import ContextCalls
from cloche.guest_api.egress import EgressCalls
from cloche.guest_api.files import FileCalls
from cloche.guest_api.machine import MachineCalls
from cloche.guest_api.models import GuestHealth, GuestStats, SessionSetup
from cloche.guest_api.network import Exchange
from cloche.guest_api.processes import ProcessCalls
from cloche.guest_api.transport import (
    MAX_ERROR_BYTES,
    Body,
    body_headers,
    chunks_of,
    error_of,
    read_bounded,
    send,
    target,
)
from cloche.model.errors import GuestError, InvalidError, VersionMismatchError

API_VERSION = 1
MIN_ENTROPY_BYTES, MAX_ENTROPY_BYTES = 32, 4096
Headers = list[tuple[bytes, bytes]]
REQUEST_HEADERS = frozenset({b"content-type", b"content-length"})
ANSWER_HEADERS = frozenset({b"content-type", b"content-length", b"cloche-file-size"})
MAX_HEADER_BYTES = 1024


class ForwardedBody:
    """An answer's bytes, unread. Close it, or the connection stays taken."""

    def __init__(self, response: Exchange) -> None:
        self._response = response
        self._chunks = chunks_of(response)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def aclose(self) -> None:
        await self._response.aclose()


class Guest(ProcessCalls, FileCalls, ContextCalls, EgressCalls, MachineCalls):
    """`Guest(channel)`: every request of guest/README.md. Close it when done; closing leaves the channel open."""

    async def health(self, timeout_seconds: float = 10.0) -> GuestHealth:
        """Raises VersionMismatchError for a guest of another wire version."""
        answer = await self._ask(GuestHealth, "GET", b"/v1/health", timeout_seconds=timeout_seconds)
        if answer.api_version != API_VERSION:
            raise VersionMismatchError(f"the guest speaks version {answer.api_version}, this node {API_VERSION}")
        return bounds.health(answer)

    async def configure_session(
        self, sandbox_id: str, *, env: dict[str, str] | None = None, session_env: dict[str, str] | None = None,
        user: str | None = None, workdir: str | None = None, open_files: int | None = None, pids: int | None = None,
    ) -> None:  # fmt: skip
        """Environment and defaults of every process to come."""
        setup = SessionSetup(sandbox_id=sandbox_id, env=env or {}, session_env=session_env or {}, user=user,
                             workdir=workdir, open_files=open_files, pids=pids)  # fmt: skip
        await self._call("PUT", b"/v1/session", setup)

    async def stats(self) -> GuestStats:
        return bounds.stats(await self._ask(GuestStats, "GET", b"/v1/stats"))

    async def set_clock(self, time: float) -> None:
        """UTC seconds. Raises UnavailableError where the guest shares the host's clock."""
        await self._call("PUT", b"/v1/clock", {"time": time})

    async def add_entropy(self, data: bytes) -> None:
        """32 to 4096 bytes for the sandbox's kernel."""
        if not MIN_ENTROPY_BYTES <= len(data) <= MAX_ENTROPY_BYTES:
            raise InvalidError(f"entropy is {MIN_ENTROPY_BYTES} to {MAX_ENTROPY_BYTES} bytes, not {len(data)}")
        async with self._stream("POST", b"/v1/entropy", body_headers(data), data) as response:
            await read_bounded(response, MAX_ERROR_BYTES)

    async def shutdown(self, grace_seconds: float = 5.0) -> None:
        """SIGTERM to everything, SIGKILL after the grace; returns when the guest has accepted."""
        await self._call("POST", b"/v1/shutdown", {"grace_seconds": grace_seconds})

    async def dial(self, port: int | None = None, *, host: str = "127.0.0.1", unix: str | None = None) -> ByteStream:
        """A stream to a TCP port or unix socket inside. Raises NotFoundError when nobody listens."""
        query = {"unix": unix} if unix is not None else {"port": port, "host": host}
        headers = [(b"Connection", b"Upgrade"), (b"Upgrade", b"cloche-stream"), (b"Content-Length", b"0")]
        response = await send(self._streams, "POST", target("/v1/dial", query), headers, b"", 30.0)
        try:
            return await _upgraded(response)
        except BaseException:
            await response.aclose()
            raise

    async def forward(
        self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]] = (), body: Body = b"",
        silence_seconds: float | None = None,
    ) -> tuple[int, Headers, ForwardedBody]:  # fmt: skip
        """Relay one request byte for byte: (status, headers, body). Of the headers only those of the wire pass; the
        body never is longer than its Content-Length. Errors of the guest come as their own status and JSON."""
        passed = [(k, v) for k, v in headers if k.lower() in REQUEST_HEADERS]
        if not any(k.lower() == b"content-length" for k, _ in passed):
            passed += body_headers(body)
        response = await send(self._streams, method, target, passed, body, silence_seconds)
        try:
            return response.status, _answer_headers(response), ForwardedBody(response)
        except BaseException:
            await response.aclose()
            raise


async def _upgraded(response: Exchange) -> ByteStream:
    if response.status != 101:
        raise error_of(response.status, await read_bounded(response, MAX_ERROR_BYTES))
    return response.upgraded()


def _answer_headers(response: Exchange) -> Headers:
    kept = [(key.lower(), value) for key, value in response.headers if key.lower() in ANSWER_HEADERS]
    if any(len(value) > MAX_HEADER_BYTES for _, value in kept):
        raise GuestError("the guest sent a header of impossible size")
    return kept
