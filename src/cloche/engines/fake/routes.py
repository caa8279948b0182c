"""The guest's wire (guest/README.md) for a fake guest: the box itself and processes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from cloche.engines.fake.context_routes import CONTEXT_ROUTES
from cloche.engines.fake.egress_routes import EGRESS_ROUTES
from cloche.engines.fake.file_routes import FILE_ROUTES
from cloche.engines.fake.guest import FakeGuest
from cloche.engines.fake.http import Answer, App, Request, json_answer
from cloche.engines.fake.output import Cursor
from cloche.engines.fake.process import FakeProcess, signal_number
from cloche.guest_api.frames import CONTENT_TYPE, EXITED, KEEPALIVE, STARTED, Frame, encode, encode_process
from cloche.guest_api.models import SessionSetup
from cloche.model.errors import InvalidError, NotFoundError, UnavailableError, WrongStateError
from cloche.model.process import ProcessSpec

Route = Callable[[FakeGuest, Request, str], Awaitable[Answer]]
NOTHING = Answer(204)


class SignalBody(msgspec.Struct, forbid_unknown_fields=True):
    signal: int | str
    group: bool = True


class ResizeBody(msgspec.Struct, forbid_unknown_fields=True):
    rows: int
    cols: int


class ShutdownBody(msgspec.Struct, forbid_unknown_fields=True):
    grace_seconds: float = 5.0


class SessionBody(SessionSetup, frozen=True, forbid_unknown_fields=True):
    pass


async def _health(guest: FakeGuest, request: Request, _: str) -> Answer:
    return json_answer(guest.health())


async def _session(guest: FakeGuest, request: Request, _: str) -> Answer:
    guest.configure(await request.json(SessionBody))
    return NOTHING


async def _stats(guest: FakeGuest, request: Request, _: str) -> Answer:
    return json_answer(guest.stats())


async def _clock(guest: FakeGuest, request: Request, _: str) -> Answer:
    raise UnavailableError("the fake sandbox has its host's clock")


async def _entropy(guest: FakeGuest, request: Request, _: str) -> Answer:
    if not 32 <= len(await request.content()) <= 4096:
        raise InvalidError("entropy is 32 to 4096 bytes")
    return NOTHING


async def _shutdown(guest: FakeGuest, request: Request, _: str) -> Answer:
    guest.shut_down((await request.json(ShutdownBody)).grace_seconds)
    return Answer(202)


async def _dial(guest: FakeGuest, request: Request, _: str) -> Answer:
    raise NotFoundError("nobody listens in a fake sandbox")


async def _start(guest: FakeGuest, request: Request, _: str) -> Answer:
    process = guest.start(await request.json(ProcessSpec))
    if not request.flag("follow"):
        return json_answer(process.info(), 201)
    return _frames_answer(follow(process, process.output.cursor(0, 0), started=True))


async def _list(guest: FakeGuest, request: Request, _: str) -> Answer:
    return json_answer({"processes": guest.list()})


async def _get(guest: FakeGuest, request: Request, process_id: str) -> Answer:
    return json_answer(guest.process(process_id).info())


async def _wait(guest: FakeGuest, request: Request, process_id: str) -> Answer:
    process = guest.process(process_id)
    try:
        async with asyncio.timeout(float(request.query.get("timeout_seconds", 30))):
            await process.exited.wait()
    except TimeoutError:
        pass
    return json_answer(process.info())


async def _output(guest: FakeGuest, request: Request, process_id: str) -> Answer:
    process = guest.process(process_id)
    cursor = process.output.cursor(request.number("stdout_offset", 0), request.number("stderr_offset", 0))
    return _frames_answer(follow(process, cursor) if request.flag("follow") else _so_far(process, cursor))


async def _stdin(guest: FakeGuest, request: Request, process_id: str) -> Answer:
    process = guest.process(process_id)
    skip = process.stdin_total - request.number("offset", process.stdin_total)
    if skip < 0:
        raise InvalidError(f"the process has had {process.stdin_total} bytes, fewer than the offset", field="offset")
    if process.state == "exited" or process.stdin.ended:
        raise WrongStateError(f"process {process_id} takes no input", state=process.state)
    async for chunk in request.body:
        fresh, skip = chunk[skip:], max(0, skip - len(chunk))
        if fresh:
            await process.write_stdin(fresh)
    return json_answer({"offset": process.stdin_total})


async def _close_stdin(guest: FakeGuest, request: Request, process_id: str) -> Answer:
    guest.process(process_id).close_stdin()
    return NOTHING


async def _signal(guest: FakeGuest, request: Request, process_id: str) -> Answer:
    body = await request.json(SignalBody)
    guest.process(process_id).kill(signal_number(body.signal))
    return NOTHING


async def _resize(guest: FakeGuest, request: Request, process_id: str) -> Answer:
    body, process = await request.json(ResizeBody), guest.process(process_id)
    if process.rows_cols is None:
        raise WrongStateError(f"process {process_id} has no PTY", state=process.state)
    process.rows_cols = (body.rows, body.cols)
    return NOTHING


async def _forget(guest: FakeGuest, request: Request, process_id: str) -> Answer:
    guest.forget(process_id)
    return NOTHING


def _frames_answer(frames: AsyncIterator[bytes]) -> Answer:
    return Answer(200, frames, [("Content-Type", CONTENT_TYPE)])


async def follow(process: FakeProcess, cursor: Cursor, *, started: bool = False) -> AsyncIterator[bytes]:
    """Frames until the process has exited and everything is told."""
    if started:
        yield encode_process(STARTED, process.info())
    with process.output.following(cursor):
        while True:
            # Asked before the output is taken: what is written in between would be missed after an exit.
            over = process.exited.is_set()
            while frames := process.output.take(cursor):
                yield b"".join(frames)
            if over:
                break
            if not process.exited.is_set() and not await process.output.change():
                yield encode(Frame(KEEPALIVE, 0, b""))
    yield encode_process(EXITED, process.info())


async def _so_far(process: FakeProcess, cursor: Cursor) -> AsyncIterator[bytes]:
    over = process.exited.is_set()
    while frames := process.output.take(cursor):
        yield b"".join(frames)
    if over:
        yield encode_process(EXITED, process.info())


_ID = r"/v1/processes/([^/]+)"
ROUTES: list[tuple[str, re.Pattern[str], Route]] = [
    (method, re.compile(pattern), route)
    for method, pattern, route in [
        ("GET", "/v1/health", _health),
        ("PUT", "/v1/session", _session),
        ("GET", "/v1/stats", _stats),
        ("PUT", "/v1/clock", _clock),
        ("POST", "/v1/entropy", _entropy),
        ("POST", "/v1/shutdown", _shutdown),
        ("POST", "/v1/dial", _dial),
        ("POST", "/v1/processes", _start),
        ("GET", "/v1/processes", _list),
        ("GET", _ID, _get),
        ("DELETE", _ID, _forget),
        ("GET", _ID + "/wait", _wait),
        ("GET", _ID + "/output", _output),
        ("POST", _ID + "/stdin", _stdin),
        ("POST", _ID + "/stdin/close", _close_stdin),
        ("POST", _ID + "/signal", _signal),
        ("POST", _ID + "/resize", _resize),
        *FILE_ROUTES,
        *CONTEXT_ROUTES,
        *EGRESS_ROUTES,
    ]
]


def app(guest: FakeGuest) -> App:
    async def answer(request: Request) -> Answer:
        for method, pattern, route in ROUTES:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return await route(guest, request, match[1] if match.groups() else "")
        raise NotFoundError(f"no such request: {request.method} {request.path}")

    return answer
