"""Routes of processes: the guest's wire, with the host's checks on the way in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from cloche.api import decode
from cloche.api.endpoint import Call, Endpoint, Nothing, Raw
from cloche.api.replies import Checked, Inspector, Json, Relay, Reply
from cloche.guest_api import bounds, frames, text
from cloche.model.process import ProcessInfo, ProcessSpec
from cloche.service.inner_ids import PROCESS

T = TypeVar("T")

FRAMES = Raw(frames.CONTENT_TYPE)
BYTES = Raw()
#: offsets are JSON integers, and those end where int64 does
MAX_OFFSET = (1 << 63) - 1
Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET)]
Size = Annotated[int, Meta(ge=1, le=65535)]
_JSON_HEADERS = {"content-type": "application/json"}


class StartQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    follow: bool = False


class WaitQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    timeout_seconds: Annotated[float, Meta(ge=0, le=86400)] = 30.0


class OutputQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Offsets in bytes; a negative one counts from the end."""

    stdout_offset: int = 0
    stderr_offset: int = 0
    follow: bool = False


class StdinQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    offset: Offset | None = None


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number, or a name with or without "SIG". `group`: the whole process group."""

    signal: Annotated[int, Meta(ge=1, le=64)] | Annotated[str, Meta(pattern="^[A-Za-z0-9+-]{1,16}$")]
    group: bool = True


class Resize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rows: Size
    cols: Size


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of stdin that were accepted since the start."""

    offset: Offset


class Processes(msgspec.Struct, frozen=True, kw_only=True):
    processes: list[ProcessInfo]


async def start_process(call: Call[StartQuery, ProcessSpec]) -> Reply:
    call.body.check()
    if call.query.follow:
        return Relay(
            call.services.processes.follow(call.path["ref"], call.body), frame_inspector(0, 0), ends_with_node=True
        )
    return Json(await call.services.processes.start(call.path["ref"], call.body), status=201)


async def list_processes(call: Call[Nothing, None]) -> Reply:
    return Json(Processes(processes=await call.services.processes.list_for(call.path["ref"])))


async def get_process(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.processes.get(call.path["ref"], _id(call.path)))


async def wait_process(call: Call[WaitQuery, None]) -> Reply:
    exchange = call.services.processes.forward(
        call.path["ref"], "GET", _id(call.path), "/wait", query=decode.again(call.query)
    )
    return Checked(exchange, ProcessInfo, bounds.process)


async def process_output(call: Call[OutputQuery, None]) -> Reply:
    exchange = call.services.processes.forward(
        call.path["ref"], "GET", _id(call.path), "/output", query=decode.again(call.query)
    )
    inspect = frame_inspector(call.query.stdout_offset, call.query.stderr_offset)
    return Relay(exchange, inspect, ends_with_node=call.query.follow)


async def write_stdin(call: Call[StdinQuery, None]) -> Reply:
    exchange = call.services.processes.forward(
        call.path["ref"],
        "POST",
        _id(call.path),
        "/stdin",
        query=decode.again(call.query),
        headers=length_of(call.headers),
        body=call.incoming.chunks(),
    )
    return Checked(exchange, Accepted, _same, has_body=True)


async def close_stdin(call: Call[Nothing, Nothing]) -> Reply:
    return await _told(call, "/stdin/close", b"")


async def signal_process(call: Call[Nothing, Signal]) -> Reply:
    return await _told(call, "/signal", text.encode(call.body))


async def resize_process(call: Call[Nothing, Resize]) -> Reply:
    return await _told(call, "/resize", text.encode(call.body))


async def remove_process(call: Call[Nothing, None]) -> Reply:
    return Relay(call.services.processes.forward(call.path["ref"], "DELETE", _id(call.path)))


def frame_inspector(stdout_offset: int | None, stderr_offset: int | None) -> Inspector:
    """Refuses a stream of frames at the first thing that the wire does not allow."""
    decoder = frames.FrameDecoder(stdout_offset=stdout_offset, stderr_offset=stderr_offset)

    def inspect(chunk: bytes) -> None:
        for frame in decoder.feed(chunk):
            if frame.kind in (frames.STARTED, frames.EXITED):
                bounds.process(frame.process())
        if not chunk:
            decoder.finish()

    return inspect


def length_of(headers: Mapping[str, str]) -> dict[str, str]:
    """How long a raw body says it is, for the guest; the server has checked that it is."""
    length = headers.get("content-length")
    return {"content-length": length} if length else {}


async def _told(call: Call[Nothing, T], rest: str, body: bytes) -> Reply:
    exchange = call.services.processes.forward(
        call.path["ref"], "POST", _id(call.path), rest, headers=_JSON_HEADERS, body=body
    )
    return Relay(exchange)


def _id(path: Mapping[str, str]) -> str:
    return PROCESS.checked(path["pid"], path["ref"])


def _same(value: Accepted) -> Accepted:
    return value


_ALL = "/v1/sandboxes/{ref}/processes"
_ONE = f"{_ALL}/{{pid}}"
_USES = ("not_found", "wrong_state", "sandbox_dead", "guest_error", "timed_out")

ENDPOINTS = (
    Endpoint(
        method="POST",
        path=_ALL,
        handler=start_process,
        query=StartQuery,
        body=ProcessSpec,
        answer=ProcessInfo,
        status=201,
        also=FRAMES,
        errors=(*_USES, "limit_hit"),
        summary="Start a process; with follow=1 answer 200 with its frames",
    ),
    Endpoint(
        method="GET",
        path=_ALL,
        handler=list_processes,
        answer=Processes,
        errors=_USES,
        summary="Processes, the newest last",
    ),
    Endpoint(method="GET", path=_ONE, handler=get_process, answer=ProcessInfo, errors=_USES, summary="One process"),
    Endpoint(
        method="GET",
        path=f"{_ONE}/wait",
        handler=wait_process,
        query=WaitQuery,
        answer=ProcessInfo,
        errors=_USES,
        summary="The process when it has exited, or as it is when the time is over",
    ),
    Endpoint(
        method="GET",
        path=f"{_ONE}/output",
        handler=process_output,
        query=OutputQuery,
        answer=FRAMES,
        errors=_USES,
        summary="Output from any offset, as frames",
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/stdin",
        handler=write_stdin,
        query=StdinQuery,
        body=BYTES,
        answer=Accepted,
        errors=_USES,
        summary="Write to its stdin; with an offset a retry never doubles",
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/stdin/close",
        handler=close_stdin,
        body=Nothing,
        status=204,
        errors=_USES,
        summary="End its stdin",
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/signal",
        handler=signal_process,
        body=Signal,
        status=204,
        errors=_USES,
        summary="Send a signal",
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/resize",
        handler=resize_process,
        body=Resize,
        status=204,
        errors=_USES,
        summary="Resize its terminal",
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        handler=remove_process,
        status=204,
        errors=_USES,
        summary="Kill it if it runs, and forget it",
    ),
)
