"""An API over one in-memory sandbox: the real routes, the real guest client and the fake engine's guest, without a
store. `serve` gives a base for requests on a real unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpcore
import msgspec

from cloche.api.app import create_app
from cloche.api.server import Listener
from cloche.engines.base import Box
from cloche.engines.fake.engine import FakeEngine
from cloche.guest_api.client import Guest
from cloche.model.errors import ClocheError, NotFoundError, WrongStateError
from cloche.model.events import Event, EventQuery, NodeStats, SandboxPage, SandboxStats, SandboxUse
from cloche.model.sandbox import Sandbox, SandboxSpec
from cloche.service.contexts import ContextService
from cloche.service.core import Core
from cloche.service.dialing import Dialing
from cloche.service.forking import Forking
from cloche.service.pool import Pool, PoolSettings
from cloche.service.reaper import Reaper
from cloche.service.services import Services
from cloche.service.setup import SetupService
from cloche.service.snapshot_copies import SnapshotCopies
from cloche.service.snapshots import SnapshotService
from cloche.service.templates import TemplateService
from cloche.store.memory import MemoryStore
from tests.unit.service.fake_door import FakeDoor
from tests.unit.service.place import OneEngine, StillClock

ID = "sb_01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Reply:
    def __init__(self, status: int, headers: Any, body: Any) -> None:
        self.status, self._headers, self._body = status, headers, body

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.decode().lower(): value.decode() for name, value in self._headers}

    def stream(self) -> AsyncIterator[bytes]:
        return self._body.__aiter__()

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.stream()])


class OneSandbox:
    """`sandboxes`, `processes` and `files` of the service, for the sandbox "box"."""

    def __init__(self, home: Path) -> None:
        self.engine = FakeEngine(home)
        self.box = Box(sandbox_id=ID, spec=SandboxSpec(), run_dir="", state_dir="", engine_state={})
        self.sandboxes = self.processes = self.files = self
        self.watching = self.statistics = Watched(self)
        self.contexts = ContextService(self)  # type: ignore[arg-type]
        self.dialing = Dialing(self)  # type: ignore[arg-type]
        core = Core(home, MemoryStore(), OneEngine(self.engine), StillClock(), None)
        self.pool = Pool(core, PoolSettings())
        self.templates = TemplateService(core, self.pool.replan)
        self.snapshots = SnapshotService(core, Reaper(core))
        self.snapshot_copies = SnapshotCopies(core, self.snapshots)
        self.forking = Forking(core, Reaper(core), self.snapshots)
        self.network = Services(home / "network", MemoryStore(), OneEngine(FakeEngine(home / "network")), StillClock(),
                                door=FakeDoor())  # fmt: skip
        self.egress, self.egress_log = self.network.egress, self.network.egress_log
        self.publishing = self.network.publishing
        self.created: list[tuple[SandboxSpec, dict[str, str] | None]] = []
        self.stopped_with: float | None = None
        self.setup = SetupService(OneEngine(self.engine))
        self.open_exchanges = 0

    async def __aenter__(self) -> OneSandbox:
        await self.engine.create(self.box)
        await self.network.sandboxes.create(SandboxSpec(name="box"))
        self._guest = Guest(await self.engine.open_channel(self.box))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._guest.close()
        await self.engine.remove(self.box)
        await self.network.sandboxes.remove("box", force=True)
        await self.network.close()

    def _known(self, ref: str) -> Sandbox:
        if ref not in ("box", ID):
            raise NotFoundError(f"no sandbox {ref!r}")
        spec = SandboxSpec(name="box")
        return Sandbox(
            id=ID, project_id="default", name="box", state="running", reason=None, engine="fake", isolation="none",
            spec=spec, limits=spec.limits.resolved(), limits_unenforced=[], labels={}, created_at=1.0, started_at=1.0,
            expires_at=None, stopped_at=None)  # fmt: skip

    @contextlib.asynccontextmanager
    async def guest(self, project_id: str, ref: str) -> AsyncIterator[Guest]:
        """As the service's Access does it."""
        self._known(ref)
        yield self._guest

    async def create(
        self,
        spec: SandboxSpec,
        *,
        session_env: dict[str, str] | None = None,
        said: frozenset[str] | None = None,
        session_secrets: dict[str, str] | None = None,
    ) -> Sandbox:
        spec.check()
        self.created.append((spec, session_env))
        return self._known("box")

    async def find(self, query: Any = None) -> SandboxPage:
        self.query = query
        return SandboxPage(sandboxes=[self._known("box")])

    async def start_sandbox(self, ref: str, **_: Any) -> Sandbox:
        raise WrongStateError("it is running", state="running")

    async def stop(self, ref: str, *, grace_seconds: float) -> Sandbox:
        self.stopped_with = grace_seconds
        return self._known(ref)

    async def pause(self, ref: str) -> Sandbox:
        return self._known(ref)

    resume = suspend = pause

    async def extend(self, ref: str, ttl_seconds: float | None) -> Sandbox:
        return self._known(ref)

    async def remove(self, ref: str, *, force: bool) -> None:
        self._known(ref)
        if not force:
            raise WrongStateError("it is running", state="running")

    async def stats(self, ref: str) -> SandboxStats:
        self._known(ref)
        return SandboxStats(time=1.0)

    async def events(self, ref: str) -> list[Event]:
        self._known(ref)
        return [Event(id="ev_1", project_id="default", sandbox_id=ID, at=1.0, kind="sandbox.created")]

    async def start(self, ref: str, spec: Any = None, **_: Any) -> Any:
        self._known(ref)
        if spec is None:
            raise WrongStateError("it is running", state="running")
        return await self._guest.start_process(spec)

    async def list_for(self, ref: str) -> Any:
        self._known(ref)
        return await self._guest.list_processes()

    async def get(self, ref: str, process_id: str | None = None) -> Any:
        return self._known(ref) if process_id is None else await self._guest.process(process_id)

    def follow(self, ref: str, spec: Any) -> Any:
        headers = {"content-type": "application/json"}
        return self._exchange(ref, "POST", "/v1/processes", "follow=1", headers, msgspec.json.encode(spec))

    def forward(self, ref: str, method: str, *rest: str, query: str = "", headers: Any = None, body: Any = None) -> Any:
        base = "/v1/processes/" if rest and not rest[0].startswith("/") and rest != ("",) else "/v1/files"
        return self._exchange(ref, method, base + "".join(rest), query, headers or {}, b"" if body is None else body)

    @contextlib.asynccontextmanager
    async def _exchange(
        self, ref: str, method: str, path: str, query: str, headers: Mapping[str, str], body: Any
    ) -> AsyncIterator[Reply]:
        self._known(ref)
        target = (path + (f"?{query}" if query else "")).encode()
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        status, got, content = await self._guest.forward(method, target, sent, body)
        self.open_exchanges += 1
        try:
            yield Reply(status, got, content)
        finally:
            self.open_exchanges -= 1
            await content.aclose()


class Watched:
    """`watching` and `statistics` of the service: two events, and then silence."""

    def __init__(self, box: OneSandbox) -> None:
        self._box = box
        self.asked: list[tuple[EventQuery, dict[str, Any]]] = []

    async def events(self, query: EventQuery, **how: Any) -> AsyncIterator[Event | None]:
        self.asked.append((query, how))
        if how["sandbox"] is not None:
            self._box._known(how["sandbox"])
        return self._events(how["follow"])

    async def _events(self, follow: bool) -> AsyncIterator[Event | None]:
        for number in (1, 2):
            yield Event(id=f"ev_{number}", project_id="default", sandbox_id=ID, at=1.0, kind="sandbox.created")
        if follow:
            yield None
            await asyncio.Event().wait()

    async def all(self) -> NodeStats:
        use = SandboxUse(sandbox=self._box._known("box"), stats=await self._box.stats("box"))
        return NodeStats(time=1.0, sandboxes=[use])


class Node:
    """What the API asks of its process."""

    def __init__(self) -> None:
        self.left: bool | None = None
        self.leaving = asyncio.Event()
        self.lines: list[bytes] = [b'{"event":"one"}\n']

    async def health(self) -> Mapping[str, Any]:
        return {"status": "ok"}

    async def doctor(self) -> Mapping[str, Any]:
        return {"checks": [], "engines": [], "auto": None}

    async def logs(self, *, lines: int, follow: bool) -> AsyncIterator[bytes]:
        for line in self.lines[:lines]:
            yield line
        if follow:
            await asyncio.Event().wait()

    def leave(self, *, stop_sandboxes: bool) -> None:
        self.left = stop_sandboxes

    async def closing(self) -> None:
        await self.leaving.wait()


class Counter:
    def __init__(self) -> None:
        self.running = 0
        self.changed = asyncio.Condition()

    def began(self) -> None:
        self.running += 1
        self._told = asyncio.ensure_future(self._tell())

    def ended(self) -> None:
        self.running -= 1
        self._told = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, running: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.running == running)


class Served:
    """A running API: `ask` for whole answers, `stream` for the others."""

    listener: Listener

    def __init__(self, services: OneSandbox, path: Path, node: Node, counter: Counter) -> None:
        self.services, self.path, self.node, self.counter = services, path, node, counter
        self.pool = httpcore.AsyncConnectionPool(uds=str(path))

    async def ask(self, method: str, target: str, body: object = None, *, raw: Any = None) -> tuple[int, Any]:
        content = raw if raw is not None else (b"" if body is None else msgspec.json.encode(body))
        url = httpcore.URL(scheme=b"http", host=b"node", target=target.encode("ascii"))
        answer = await self.pool.handle_async_request(
            httpcore.Request(method, url, headers=[(b"Host", b"node"), *_length(content)], content=content)
        )
        try:
            data = await answer.aread()
        finally:
            await answer.aclose()
        self.headers = {name.decode().lower(): value.decode() for name, value in answer.headers}
        is_json = data and self.headers.get("content-type") == "application/json"
        return answer.status, json.loads(data) if is_json else data


def _length(content: Any) -> list[tuple[bytes, bytes]]:
    if isinstance(content, bytes):
        return [(b"Content-Length", str(len(content)).encode())]
    return [(b"Transfer-Encoding", b"chunked")]


@contextlib.asynccontextmanager
async def serve(directory: Path, whole: Any = None) -> AsyncIterator[Served]:
    """`whole`: real services, which are the caller's to close."""
    node, counter = Node(), Counter()
    async with contextlib.nullcontext(whole) if whole else OneSandbox(directory) as services:
        listener = Listener(create_app(services, node, counter))  # type: ignore[arg-type]
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(directory / "n.sock"))
        listening.listen()
        await listener.start(listening)
        served = Served(services, directory / "n.sock", node, counter)
        served.listener = listener
        try:
            yield served
        finally:
            await served.pool.aclose()
            await listener.stop(1.0)


def error_of(answer: tuple[int, Any]) -> tuple[int, str, dict[str, Any]]:
    status, body = answer
    assert set(body) == {"error"}, body
    return status, body["error"]["code"], body["error"].get("details", {})


__all__ = ["ID", "ClocheError", "Served", "error_of", "serve"]
