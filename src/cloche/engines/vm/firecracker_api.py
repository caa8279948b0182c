"""Firecracker's HTTP API: the bodies of its requests, and one method for each request that Cloche makes.

As src/firecracker/swagger/firecracker.yaml has it (1.17.0-dev, and no field that 1.8 does not know: unknown ones are
refused). Every success is 204, every refusal 400 with `fault_message`. Paths are those in its box, the same for every
machine: the paths of drives and of the vsock are in the state of a capture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from cloche.engines.vm import local_api
from cloche.engines.vm.machine import Drive, Machine
from cloche.model.errors import EngineError, UnavailableError

#: 1.8.0 describes devices to x86 guests by ACPI; Debian's kernels look for them nowhere else
MINIMUM_VERSION = (1, 8)
GUEST_CID = 3
REFILL_MILLISECONDS = 1000
#: writing or mapping the memory of a large machine
SNAPSHOT_SECONDS = 120.0

State = Literal["Not started", "Running", "Paused"]
_STATES = frozenset({"Not started", "Running", "Paused"})
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[-+][0-9A-Za-z.+-]{1,64})?")


def machine_config(machine: Machine) -> dict[str, Any]:
    return {"vcpu_count": machine.vcpus, "mem_size_mib": machine.memory_mib, "smt": False, "track_dirty_pages": False}


def boot_source(machine: Machine, kernel: str, initramfs: str) -> dict[str, Any]:
    return {"kernel_image_path": kernel, "initrd_path": initramfs, "boot_args": machine.command_line}


def drive(drive: Drive, path: str) -> dict[str, Any]:
    """None is the root device: the initramfs knows what to mount, and drives keep the order in which they are put."""
    body: dict[str, Any] = {
        "drive_id": drive.id,
        "path_on_host": path,
        "is_root_device": False,
        "is_read_only": drive.read_only,
    }
    limiter = rate_limiter(drive)
    return {**body, "rate_limiter": limiter} if limiter else body


def rate_limiter(drive: Drive) -> dict[str, Any]:
    """Buckets of one second."""
    rates = {"bandwidth": drive.bytes_per_second, "ops": drive.operations_per_second}
    return {
        name: {"size": rate, "refill_time": REFILL_MILLISECONDS} for name, rate in rates.items() if rate is not None
    }


def vsock(path: str) -> dict[str, Any]:
    """Every machine has the same CID: the number means something only together with the socket's path."""
    return {"guest_cid": GUEST_CID, "uds_path": path}


def parse_version(said: object) -> tuple[int, int, int]:
    """Raises EngineError."""
    text = said.get("firecracker_version") if isinstance(said, dict) else None
    match = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise EngineError("Firecracker does not tell its version", stage="vmm_api")
    return int(match[1]), int(match[2]), int(match[3])


class FirecrackerApi:
    """One Firecracker, by its socket. Every method raises SandboxDeadError when nobody answers, EngineError."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def check_version(self) -> tuple[int, int, int]:
        """Raises UnavailableError when it is too old."""
        version = parse_version(await self._get("/version"))
        if version[:2] < MINIMUM_VERSION:
            wanted = ".".join(map(str, MINIMUM_VERSION))
            raise UnavailableError(
                f"Firecracker {'.'.join(map(str, version))} is too old: Cloche needs {wanted} or newer",
                remedy="install a newer release of Firecracker, or CLOCHE_VMM=qemu",
            )
        return version

    async def state(self) -> State:
        said = await self._get("/")
        found = said.get("state") if isinstance(said, dict) else None
        if found not in _STATES:
            raise EngineError("Firecracker does not tell its state", stage="vmm_api")
        return found  # type: ignore[no-any-return]

    async def configure(self, resource: str, body: dict[str, Any]) -> None:
        """Before the start. `resource`: "machine-config", "boot-source", "drives/ID", "vsock", "entropy"."""
        await self._send("PUT", f"/{resource}", body)

    async def start(self) -> None:
        await self._send("PUT", "/actions", {"action_type": "InstanceStart"})

    async def pause(self) -> None:
        await self._send("PATCH", "/vm", {"state": "Paused"})

    async def resume(self) -> None:
        await self._send("PATCH", "/vm", {"state": "Resumed"})

    async def create_snapshot(self, state: str, memory: str) -> None:
        """Of a machine that is paused, with its whole memory."""
        body = {"snapshot_type": "Full", "snapshot_path": state, "mem_file_path": memory}
        await self._send("PUT", "/snapshot/create", body, SNAPSHOT_SECONDS)

    async def load_snapshot(self, state: str, memory: str, *, resume: bool) -> None:
        """Into a Firecracker that was not configured. It maps the memory privately. When it fails Firecracker ends."""
        body: dict[str, Any] = {
            "snapshot_path": state,
            "mem_backend": {"backend_type": "File", "backend_path": memory},
            "resume_vm": resume,
        }
        await self._send("PUT", "/snapshot/load", body, SNAPSHOT_SECONDS)

    async def _get(self, target: str) -> Any:
        status, answer = await local_api.call(self._socket, "GET", target)
        if status != 200:
            raise _refused("GET", target, answer)
        return answer

    async def _send(
        self, method: str, target: str, body: dict[str, Any], seconds: float = local_api.USUAL_SECONDS
    ) -> None:
        status, answer = await local_api.call(self._socket, method, target, body, seconds=seconds)
        if status != 204:
            raise _refused(method, target, answer)


def _refused(method: str, target: str, answer: object) -> EngineError:
    said = local_api.reason(answer, "fault_message")
    return EngineError(f"Firecracker refused {method} {target}: {said}", stage="vmm_api")
