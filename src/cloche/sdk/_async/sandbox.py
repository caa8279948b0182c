"""One sandbox: made, found again, used and removed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from cloche.model.errors import ClocheError, InvalidError, NotFoundError
from cloche.model.events import Event, SandboxStats
from cloche.model.lifecycle import State
from cloche.model.process import ProcessInfo, PtySize
from cloche.sdk import egress_options, options, wire
from cloche.sdk._async import bridge
from cloche.sdk._async.dialing import AsyncDialing
from cloche.sdk._async.files import AsyncFiles
from cloche.sdk._async.network import AsyncNetwork
from cloche.sdk._async.node import AsyncNode
from cloche.sdk._async.process import AsyncProcess
from cloche.sdk.collect import Collector
from cloche.sdk.options import ProcessOptions, SandboxOptions
from cloche.sdk.values import (
    MAX_OUTPUT_BYTES,
    CommandFailedError,
    ExecResult,
    ForkedInfo,
    Output,
    ProcessEvent,
    SandboxInfo,
    SandboxInfoPage,
    SnapshotInfo,
)

if TYPE_CHECKING:  # a command that runs no code in contexts does not import what does
    from cloche.sdk._async.contexts import AsyncContexts
    from cloche.sdk._async.executions import AsyncCodeStream
    from cloche.sdk.code import Execution
    from cloche.sdk.code_options import CodeOptions

Stdin = bytes | str | bridge.Chunks
#: inside the class `list` is its own method
ProcessInfos = list[ProcessInfo]


class AsyncSandbox(AsyncNetwork, AsyncDialing):
    """A place to run code that nobody has reviewed. As a context manager it is removed at the end.

    Every call raises NotFoundError when it is gone, WrongStateError when its state forbids the call, SandboxDeadError
    when it ends meanwhile, NodeUnreachableError when no node answers and none can be started."""

    def __init__(self, node: AsyncNode, info: SandboxInfo) -> None:
        super().__init__(node, info)
        self.files = AsyncFiles(node.transport, info.id)

    @classmethod
    async def create(
        cls, image: str = "host", *, home: str | None = None, session_env: Mapping[str, str] | None = None,
        **sandbox: Unpack[SandboxOptions],
    ) -> AsyncSandbox:  # fmt: skip
        """Make a sandbox and wait until it runs.

        `session_env` is given to its processes and never stored; `home` is the node's data directory (default:
        CLOCHE_HOME). Options: `name`, `engine`, `isolation`, `memory` and `disk` ("512m" or MiB), `cpus`, `pids`,
        `open_files`, `env`, `labels`, `mounts` ("SRC:DST:ro" or Mount), `host_paths`, `hide`, `workdir`, `user`,
        `hostname`, `ttl_seconds`, `idle_timeout_seconds`, and `template`: the name of one to begin from, over which the
        options that are given win; or `snapshot`: the name or id of one to go on from, which engine, image, limits and
        mounts come from. What it may reach is `net`: words such as "pypi,api.example.com", an EgressPolicy, "none"
        (the default) or "allow". `secrets`: "GITHUB_TOKEN@api.github.com", whose value is read here and never seen
        inside, or (such words, the value).

        Raises InvalidError, AlreadyExistsError (the name), UnavailableError (engine, isolation or image),
        LimitUnenforceableError (a limit that was given cannot be kept here), EngineError."""
        spec = options.sandbox_spec(image, sandbox)
        node = AsyncNode(home)
        session = options.session_body(session_env, sandbox)
        body = {**options.create_body(spec, sandbox), "session": session}
        while True:
            try:
                made = await node.transport.ask("POST", "/v1/sandboxes", json=body)
                return cls(node, wire.decode(made, SandboxInfo))
            except InvalidError as error:
                if not egress_options.completed(session.setdefault("secrets", {}), error):
                    raise

    @classmethod
    async def from_id(cls, ref: str, *, home: str | None = None) -> AsyncSandbox:
        """Find one by id, name, or a unique beginning of its id. Raises NotFoundError, InvalidError (ambiguous)."""
        node = AsyncNode(home)
        found = await node.transport.ask("GET", f"/v1/sandboxes/{wire.segment(ref)}")
        return cls(node, wire.decode(found, SandboxInfo))

    @classmethod
    async def list(
        cls, *, labels: Mapping[str, str | None] | None = None, states: Sequence[State] = (), home: str | None = None
    ) -> list[SandboxInfo]:
        """All that match, oldest first. A label's value None: any value. No `states`: any state."""
        node, found = AsyncNode(home), []
        wanted = {"label": options.labels_query(labels), "state": ",".join(states) or None, "limit": 1000}
        query: dict[str, Any] = dict(wanted)
        while True:
            page = wire.decode(await node.transport.ask("GET", "/v1/sandboxes", query=query), SandboxInfoPage)
            found += page.sandboxes
            if page.next_cursor is None:
                return found
            query["cursor"] = page.next_cursor

    @functools.cached_property
    def contexts(self) -> AsyncContexts:
        """The interpreters in it that keep their state."""
        from cloche.sdk._async.contexts import AsyncContexts

        return AsyncContexts(self._transport, self.id)

    async def info(self) -> SandboxInfo:
        """What is known of it now."""
        return await self._told("GET", "")

    async def exec(
        self, *argv: str, stdin: Stdin | None = None, on_stdout: bridge.Callback | None = None,
        on_stderr: bridge.Callback | None = None, check: bool = False, max_output_bytes: int = MAX_OUTPUT_BYTES,
        **process: Unpack[ProcessOptions],
    ) -> ExecResult:  # fmt: skip
        """Run a command to its end. A non-zero exit, a missing program and a limit that was hit are results.

        Of each stream the first `max_output_bytes` are kept, and `truncated` says if there was more; callbacks see
        everything. Options: `env`, `cwd`, `user`, `timeout_seconds`, `output_limit_bytes`, `tag`. When the caller is
        interrupted the command is killed. Raises CommandFailedError with `check`, InvalidError."""
        spec = options.process_spec(argv, process, stdin=stdin is not None)
        run = await AsyncProcess.start(self._transport, self.id, spec, follow=True)
        collector = Collector(max_output_bytes)
        try:
            async with bridge.background(_feeding(run, stdin)):
                async for event in run.output():
                    collector.take(event)
                    await _show(event, on_stdout, on_stderr)
        except BaseException:
            with contextlib.suppress(ClocheError):
                await run.kill()
            raise
        finally:
            await run.release()
        result = collector.result(run.info)
        if check and result.exit_code != 0:
            raise CommandFailedError(argv, result)
        return result

    async def spawn(
        self, *argv: str, stdin: bool = False, pty: PtySize | None = None, follow: bool = False,
        **process: Unpack[ProcessOptions],
    ) -> AsyncProcess:  # fmt: skip
        """Start a command and come back at once. With `stdin` it can be written to (a pty always can). Its output is
        kept for whoever reads it, the newest 8 MiB per stream; with `follow` it waits from its first byte on for
        `output` to read, or for `release`. Options as for `exec`."""
        spec = options.process_spec(argv, process, stdin=stdin or pty is not None, pty=pty)
        return await AsyncProcess.start(self._transport, self.id, spec, follow=follow)

    async def pty(self, *argv: str, rows: int = 24, cols: int = 80, **process: Unpack[ProcessOptions]) -> AsyncProcess:
        """Start a command (default: a login shell) on a terminal of its own."""
        return await self.spawn(*(argv or ("bash", "-l")), pty=PtySize(rows=rows, cols=cols), **process)

    async def processes(self) -> ProcessInfos:
        """Those that run and the newest of those that have ended, the newest last."""
        answer = wire.as_dict(await self._transport.ask("GET", f"{self._path}/processes"))
        return msgspec.convert(answer.get("processes", []), ProcessInfos)

    async def process(self, process_id: str, *, stdout_offset: int = 0, stderr_offset: int = 0) -> AsyncProcess:
        """Find a process again, to go on reading its output at these offsets. Raises NotFoundError."""
        path = f"{self._path}/processes/{wire.segment(process_id)}"
        found = AsyncProcess(self._transport, self.id, wire.decode(await self._transport.ask("GET", path), ProcessInfo))
        found.seek(stdout_offset=stdout_offset, stderr_offset=stderr_offset)
        return found

    async def logs(self, process_id: str | None = None, *, follow: bool = False) -> AsyncIterator[ProcessEvent]:
        """What a process wrote, as far as it is kept; without an id that of the newest. Raises NotFoundError."""
        if process_id is None:
            known = await self.processes()
            if not known:
                raise NotFoundError(f"no process has run in {self.id}", remedy=f"cloche exec {self.id} -- …")
            process_id = known[-1].id
        found = await self.process(process_id)
        async for event in found.output(follow=follow):
            yield event

    async def run_code(
        self, code: str, *, on_stdout: bridge.TextCallback | None = None, on_stderr: bridge.TextCallback | None = None,
        on_result: bridge.ResultCallback | None = None, max_output_bytes: int = MAX_OUTPUT_BYTES,
        **options: Unpack[CodeOptions],
    ) -> Execution:  # fmt: skip
        """Run code in an interpreter that keeps its state for the next call. Code that fails is a result.

        Options: `language` ("python", "javascript", "bash"), `context` (default: one for each language, made when it
        is needed), `timeout_seconds` (then it is interrupted, and killed with its context when it goes on),
        `on_disconnect`: "interrupt" ends the code when the caller goes away, "keep" lets it run. Of each stream and of
        the results the first `max_output_bytes` are kept; callbacks get text as it comes. Raises
        InterpreterMissingError, InvalidError."""
        stream = self.stream_code(code, **options)
        return await stream.result(
            on_stdout=on_stdout, on_stderr=on_stderr, on_result=on_result, max_output_bytes=max_output_bytes
        )

    def stream_code(self, code: str, **options: Unpack[CodeOptions]) -> AsyncCodeStream:
        """Run code and iterate over its events as they come. It is sent when the first of them is asked for."""
        from cloche.sdk._async.executions import AsyncCodeStream
        from cloche.sdk.code_options import code_body

        return AsyncCodeStream(self._transport, self._path, body=code_body(code, options))

    def execution(self, execution_id: str, *, after: int = 0, follow: bool = True) -> AsyncCodeStream:
        """The events above `after` of code that was run with on_disconnect="keep", or that still runs. The newest 64
        that have ended are kept; reading raises NotFoundError for others."""
        from cloche.sdk._async.executions import AsyncCodeStream

        return AsyncCodeStream(self._transport, self._path, execution_id=execution_id, after=after, follow=follow)

    async def start(self, *, session_env: Mapping[str, str] | None = None) -> SandboxInfo:
        """Start it again, with the disk that `stop` kept where the engine keeps it."""
        return await self._told("POST", "/start", {"session": {"env": dict(session_env or {})}})

    async def stop(self, *, grace_seconds: float = 5.0) -> SandboxInfo:
        """SIGTERM to all of its processes, SIGKILL after the grace."""
        return await self._told("POST", "/stop", {"grace_seconds": grace_seconds})

    async def kill(self) -> SandboxInfo:
        """Stop it without any grace."""
        return await self.stop(grace_seconds=0)

    async def pause(self) -> SandboxInfo:
        """Freeze its processes in memory. Raises UnavailableError where the engine cannot."""
        return await self._told("POST", "/pause", {})

    async def suspend(self) -> SandboxInfo:
        """Put its memory and disk into files, and take no memory until `resume`. It does not expire meanwhile, unless
        it is extended. Raises UnavailableError where the engine cannot, NoSpaceError."""
        return await self._told("POST", "/suspend", {})

    async def resume(self) -> SandboxInfo:
        """Let it go on after `pause` or `suspend`."""
        return await self._told("POST", "/resume", {})

    async def fork(
        self, count: int = 1, *, names: Sequence[str] = (), labels: Mapping[str, str] | None = None,
        ttl_seconds: float | None = None,
    ) -> Sandboxes:  # fmt: skip
        """So many sandboxes (at most 64) with the same files, processes and contexts, all of one moment; this one goes
        on. All or none. `names`: one for each. `labels` are added to those of this one; without `ttl_seconds` they live
        as long as it was made for. Raises AlreadyExistsError (a name), UnavailableError where the engine cannot."""
        body = {"count": count, "names": [*names], "labels": dict(labels or {}), "ttl_seconds": ttl_seconds}
        answer = await self._transport.ask("POST", f"{self._path}/fork", json=body)
        return [type(self)(self._node, info) for info in wire.decode(answer, ForkedInfo).sandboxes]

    async def snapshot(
        self, *, name: str | None = None, labels: Mapping[str, str] | None = None, description: str = ""
    ) -> SnapshotInfo:
        """Keep its files and processes as they are now, for any number of `Sandbox.create(snapshot=…)`; this one goes
        on. Raises AlreadyExistsError (the name), UnavailableError where the engine cannot, NoSpaceError."""
        body = {"name": name, "labels": dict(labels or {}), "description": description}
        answer = await self._transport.ask("POST", f"{self._path}/snapshots", json=body)
        return wire.decode(answer, SnapshotInfo)

    async def extend(self, ttl_seconds: float | None) -> SandboxInfo:
        """Let it expire so many seconds from now, or never (None)."""
        return await self._told("POST", "/extend", {"ttl_seconds": ttl_seconds})

    async def events(self, *, follow: bool = False, after: str = "") -> AsyncIterator[Event]:
        """What happened to it, oldest first, from behind the event `after` on; with `follow` also what happens from
        now on, until it is removed. See `Node.events`."""
        async for event in self._node.events(sandbox=self.id, follow=follow, after=after):
            yield event
            if event.kind == "sandbox.removed":
                return

    async def stats(self) -> SandboxStats:
        """What it uses now."""
        return wire.decode(await self._transport.ask("GET", f"{self._path}/stats"), SandboxStats)

    async def remove(self, *, force: bool = True) -> None:
        """Take it away with everything in it. Without `force` WrongStateError while it lives."""
        await self._transport.ask("DELETE", self._path, query={"force": force})

    async def __aenter__(self) -> AsyncSandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(NotFoundError):
            await self.remove()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def _told(self, method: str, rest: str, body: object = None) -> SandboxInfo:
        self._info = wire.decode(await self._transport.ask(method, self._path + rest, json=body), SandboxInfo)
        return self._info


Sandboxes = list[AsyncSandbox]


def _feeding(run: AsyncProcess, stdin: Stdin | None) -> Any:
    if stdin is None:
        return None
    whole = stdin.encode() if isinstance(stdin, str) else stdin
    return lambda: run.feed(_pieces(whole) if isinstance(whole, bytes) else whole)


def _pieces(data: bytes, size: int = 256 << 10) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def _show(event: ProcessEvent, on_stdout: bridge.Callback | None, on_stderr: bridge.Callback | None) -> None:
    if isinstance(event, Output):
        callback = on_stdout if event.stream == "stdout" else on_stderr
        if callback is not None:
            await bridge.call(callback, event.data)
