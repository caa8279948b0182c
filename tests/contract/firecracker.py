"""A server that is as strict as Firecracker: the order of calls and the states of src/vmm/src/rpc_interface.rs, the
HTTP of its micro_http, the handshake of docs/vsock.md. No machine runs behind it: its "guest" repeats what it is sent,
on the ports it listens on, and a snapshot is the configuration as JSON beside a file of the memory's size."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h11
import msgspec

from tests.contract import bodies, http

MAX_BODY_BYTES = 51200
REASONS = {200: "OK", 204: "No Content", 400: "Bad Request"}
BEFORE = "The requested operation is not supported before starting the microVM."
AFTER = "The requested operation is not supported after starting the microVM."
Body = TypeVar("Body", bound=bodies.Strict)


class FaultError(Exception):
    """Answered with 400 and its text."""


class Configuration(msgspec.Struct, kw_only=True):
    machine: bodies.MachineConfig = msgspec.field(
        default_factory=lambda: bodies.MachineConfig(vcpu_count=1, mem_size_mib=128)
    )
    boot: bodies.BootSource | None = None
    drives: list[bodies.Drive] = []
    vsock: bodies.Vsock | None = None
    entropy: bool = False


class Firecracker:
    """One process: `async with` it. `directory`: where it was started, and what it sees as its root when jailed."""

    def __init__(self, directory: Path, *, version: str = "1.8.0", ports: frozenset[int] = frozenset({1024})) -> None:
        self.directory, self.version, self.ports = directory, version, ports
        self.state, self.configuration, self.configured = "Not started", Configuration(), False
        self.log: list[str] = []
        self._servers: list[asyncio.Server] = []
        self._tracks = False

    def at(self, path: str) -> Path:
        """Where a file that it opens is for whoever looks from outside."""
        return self.directory / path

    async def __aenter__(self) -> Firecracker:
        server = await asyncio.start_unix_server(self._serve, self.at("api.sock"))
        self._servers.append(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        for name in ("api.sock", "vsock.sock"):
            self.at(name).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            request, content = await http.request(reader)
            status, answer = await self._answer(request, content)
            writer.write(http.answer(status, REASONS[status], answer))
            await writer.drain()

    async def _answer(self, request: h11.Request, content: bytes) -> tuple[int, Any]:
        target = request.target.decode()
        method = request.method.decode()
        self.log.append(f"{method} {target}")
        try:
            _check_head(request, content)
            answer = await self._do(method, target, content)
        except (FaultError, msgspec.DecodeError) as error:
            return 400, {"fault_message": str(error)}
        return (204, None) if answer is None else (200, answer)

    async def _do(self, method: str, target: str, content: bytes) -> Any:
        if method == "GET":
            return self._get(target)
        path, _, name = target.removeprefix("/").partition("/")
        if method == "PUT" and path == "drives":
            return self._drive(name, _decode(content, bodies.Drive))
        if method == "PUT" and path == "snapshot":
            return await self._snapshot(name, content)
        done = {"PUT": self._puts, "PATCH": {"/vm": self._change}}.get(method, {}).get(target)
        if done is None:
            raise FaultError(f"Invalid request method and/or path: {method} {target}.")
        return await done(content)

    def _get(self, target: str) -> Any:
        answers: dict[str, Any] = {
            "/": {"app_name": "Firecracker", "id": "x", "state": self.state, "vmm_version": self.version},
            "/version": {"firecracker_version": self.version},
            "/machine-config": msgspec.to_builtins(self.configuration.machine),
        }
        if target not in answers:
            raise FaultError(f"Invalid request method and/or path: GET {target}.")
        return answers[target]

    @property
    def _puts(self) -> dict[str, Callable[[bytes], Any]]:
        return {
            "/machine-config": self._machine,
            "/boot-source": self._boot,
            "/vsock": self._vsock,
            "/entropy": self._entropy,
            "/logger": self._logger,
            "/actions": self._act,
        }

    def _before_start(self) -> None:
        if self.state != "Not started":
            raise FaultError(AFTER)
        self.configured = True

    async def _machine(self, content: bytes) -> None:
        body = _decode(content, bodies.MachineConfig)
        self._before_start()
        if body.smt and body.vcpu_count > 1 and body.vcpu_count % 2:
            raise FaultError("Machine config error: the vCPU count must be 1 or even with SMT")
        self.configuration.machine = body

    async def _boot(self, content: bytes) -> None:
        body = _decode(content, bodies.BootSource)
        self._before_start()
        for path in filter(None, (body.kernel_image_path, body.initrd_path)):
            self._existing(path, "Boot source error: The kernel or initrd file cannot be opened")
        if len(body.boot_args or "") > 2047:
            raise FaultError("Boot source error: The kernel command line is invalid: too large")
        self.configuration.boot = body

    def _drive(self, name: str, body: bodies.Drive) -> None:
        if not name or not all(letter == "_" or letter.isalnum() for letter in name):
            raise FaultError("API Resource IDs can only contain alphanumeric characters and underscores.")
        if name != body.drive_id:
            raise FaultError("The id from the path does not match the id from the body!")
        self._before_start()
        self._existing(body.path_on_host, "Drive config error: Unable to create the virtio block device")
        self.configuration.drives = [drive for drive in self.configuration.drives if drive.drive_id != name] + [body]

    async def _vsock(self, content: bytes) -> None:
        body = _decode(content, bodies.Vsock)
        self._before_start()
        self.configuration.vsock = body

    async def _entropy(self, content: bytes) -> None:
        _decode(content, bodies.Entropy)
        self._before_start()
        self.configuration.entropy = True

    async def _logger(self, content: bytes) -> None:
        _decode(content, bodies.Logger)
        if self.state != "Not started":
            raise FaultError(AFTER)

    async def _act(self, content: bytes) -> None:
        body = _decode(content, bodies.Action)
        if body.action_type != "InstanceStart":
            if self.state == "Not started":
                raise FaultError(BEFORE)
            return
        if self.state != "Not started":
            raise FaultError(AFTER)
        if self.configuration.boot is None:
            raise FaultError("Start microvm error: Cannot start microvm without kernel configuration.")
        self._tracks = self.configuration.machine.track_dirty_pages
        await self._run("Running")

    async def _change(self, content: bytes) -> None:
        body = _decode(content, bodies.Vm)
        if self.state == "Not started":
            raise FaultError(BEFORE)
        self.state = "Paused" if body.state == "Paused" else "Running"

    async def _snapshot(self, name: str, content: bytes) -> None:
        if name == "create":
            self._create(_decode(content, bodies.SnapshotCreate))
        elif name == "load":
            await self._load(_decode(content, bodies.SnapshotLoad))
        else:
            raise FaultError("Missing snapshot operation type.")

    def _create(self, body: bodies.SnapshotCreate) -> None:
        if self.state == "Not started":
            raise FaultError(BEFORE)
        if self.state != "Paused":
            raise FaultError("Create snapshot error: Cannot save a microVM that is not paused")
        if body.snapshot_type == "Diff" and not self._tracks:
            raise FaultError("Create snapshot error: Diff snapshots need dirty page tracking")
        self.at(body.snapshot_path).write_bytes(msgspec.json.encode(self.configuration))
        with self.at(body.mem_file_path).open("wb") as memory:
            memory.truncate(self.configuration.machine.mem_size_mib << 20)
            memory.seek(1 << 20)
            memory.write(b"changed" if body.snapshot_type == "Diff" else b"everything")

    async def _load(self, body: bodies.SnapshotLoad) -> None:
        if (body.mem_backend is None) == (body.mem_file_path is None):
            raise FaultError("missing field: either `mem_backend` or `mem_file_path` is required")
        if self.state != "Not started":
            raise FaultError(AFTER)
        if self.configured:
            raise FaultError(
                "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources."
            )
        try:
            self._restore(body)
            await self._run("Running" if body.resume_vm else "Paused")
        except (OSError, FaultError, msgspec.DecodeError) as error:
            asyncio.get_running_loop().call_soon(self._end)
            raise FaultError(f"Load snapshot error: Failed to restore from snapshot: {error}") from error

    def _end(self) -> None:
        """A Firecracker that could not load ends."""
        self.ended = asyncio.ensure_future(self.die())

    def _restore(self, body: bodies.SnapshotLoad) -> None:
        state = self.at(body.snapshot_path).read_bytes()
        self.configuration = msgspec.json.decode(state, type=Configuration)
        path = body.mem_backend.backend_path if body.mem_backend else str(body.mem_file_path)
        if self.at(path).stat().st_size != self.configuration.machine.mem_size_mib << 20:
            raise FaultError("the memory file has another size than the machine")
        for drive in self.configuration.drives:
            self._existing(drive.path_on_host, "Unable to create the virtio block device")
        self._tracks = body.enable_diff_snapshots

    async def _run(self, state: str) -> None:
        if self.configuration.vsock is not None:
            path = self.at(self.configuration.vsock.uds_path)
            if path.exists():
                raise FaultError("Vsock: Address in use (os error 98)")
            self._servers.append(await asyncio.start_unix_server(self._connect, path))
        self.state = state

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            word, _, port = (await reader.readline()).rstrip(b"\n").partition(b" ")
            if word != b"CONNECT" or not port.isdigit() or int(port) not in self.ports:
                return
            writer.write(b"OK 1073741824\n")
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()

    def _existing(self, path: str, fault: str) -> None:
        if not self.at(path).is_file():
            raise FaultError(f"{fault}: No such file or directory (os error 2) {path}")


def _decode(content: bytes, kind: type[Body]) -> Body:
    if not content:
        raise FaultError("Empty PUT request.")
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise FaultError(f"An error occurred when deserializing the json body of a request: {error}.") from error


def _check_head(request: h11.Request, content: bytes) -> None:
    headers = dict(request.headers)
    if b"transfer-encoding" in headers:
        raise FaultError("Unsupported header: Transfer-Encoding")
    if content and headers.get(b"content-type", b"application/json") != b"application/json":
        raise FaultError("Unsupported value of Content-Type")
    if len(content) > MAX_BODY_BYTES:
        raise FaultError("Request payload too large")
    if request.method == b"GET" and content:
        raise FaultError("GET request cannot have a body.")
