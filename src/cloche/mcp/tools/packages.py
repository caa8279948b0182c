"""install_package: says what is there, fetches what is not where the policy allows it, and else says so plainly."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec

from cloche.mcp import bounds, installing
from cloche.mcp.answer import Outcome, Reply
from cloche.mcp.tools.tool import Call, SandboxRef, Timeout, Tool
from cloche.model.errors import InvalidError, UnavailableError
from cloche.sdk._async.sandbox import AsyncSandbox
from cloche.sdk.values import ExecResult

DEFAULT_SECONDS = 60.0
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,100}[A-Za-z0-9])?"
_PACKAGE = re.compile(rf"({_NAME})(?:\[[A-Za-z0-9._,-]{{0,100}}\])?((?:[<>=!~].*)?)")
_VERSIONS = re.compile(r"(?:[<>=!~]=?=?[A-Za-z0-9.*+-]{1,50}(?:,|$))*")
_SPACED = re.compile(r"\s*([<>=!~,\[\]])\s*")
#: asked inside the sandbox: a distribution of that name, or at least a module
_LOOK = """
import sys
sys.path[:] = [place for place in sys.path if place]
import importlib.metadata as m, importlib.util as u, json
name = sys.argv[1]
try:
    print(json.dumps({"version": m.version(name)}))
except m.PackageNotFoundError:
    module = name.replace("-", "_")
    try:
        found = u.find_spec(module) or u.find_spec(module.lower())
    except (ImportError, ValueError, AttributeError):
        found = None
    print(json.dumps({"module": found.name} if found else {}))
"""


class NetworkClosedError(UnavailableError):
    """The work needs the network, and this sandbox has none until a policy opens it."""

    code = "network_closed"
    usual_remedy = (
        "use what is there already (run_command `python3 -m pip list`), write the code without the package, or ask the "
        "user to start this server with a policy (`cloche mcp --net pypi`) or to install it on this machine, whose "
        "/usr the sandboxes show"
    )


class InstallArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    package: Annotated[
        str, msgspec.Meta(min_length=1, max_length=300, description="Name and maybe version, e.g. `numpy==1.26.4`.")
    ]
    sandbox_id: SandboxRef = None
    timeout: Annotated[Timeout, msgspec.Meta(description="Seconds it may take (60).")] | None = None


class Installed(Outcome, kw_only=True):
    """`installed_version` None with `success` true: a module of the standard library or without a version."""

    sandbox_id: str = ""
    output: str = ""
    exit_code: int | None = 0
    package: str = ""
    installed_version: str | None = None


async def install(call: Call, given: InstallArguments) -> Reply:
    name, wanted = parse(given.package)
    seconds = given.timeout or DEFAULT_SECONDS
    async with call.sandboxes.using(given.sandbox_id, seconds) as (box, notes):
        found = await _look(box, name, seconds)
        version = found.get("version")
        if found and (not wanted or _same(wanted, version)):
            told = f"{name} is installed already" + (f", version {version}." if version else ".")
            return _reply(Installed(sandbox_id=box.id, output=told, package=name, installed_version=version), notes)
        if (await box.info()).spec.egress is None:
            raise _closed(name, wanted, version)
        done = await installing.install(box, _SPACED.sub(r"\1", given.package.strip()), seconds)
        version = (await _look(box, name, seconds)).get("version") if done.exit_code == 0 else version
    return _reply(_fetched(box.id, name, done, version), notes)


async def _look(box: AsyncSandbox, name: str, seconds: float) -> dict[str, str]:
    """`version`, `module`, or nothing when it is not there. Raises UnavailableError."""
    done = await box.exec("python3", "-c", _LOOK, name, timeout_seconds=seconds, max_output_bytes=4096)
    if done.exit_code != 0:
        raise UnavailableError(
            f"Python could not be asked for {name}: exit code {done.exit_code}: {bounds.cut(done.stderr, 2000)}",
            remedy="run_command `python3 --version`",
        )
    return _found(done.stdout)


def _fetched(sandbox_id: str, name: str, done: ExecResult, version: str | None) -> Installed:
    worked = done.exit_code == 0
    told = f"{name} was installed" + (f", version {version}." if version else ".")
    return Installed(
        success=worked, error="" if worked else f"pip ended with exit code {done.exit_code}", sandbox_id=sandbox_id,
        output=told if worked else installing.tail(done), exit_code=done.exit_code, package=name,
        installed_version=version,
    )  # fmt: skip


def _reply(installed: Installed, notes: list[str]) -> Reply:
    installed.notes = notes
    return Reply(installed, installed.output if installed.success else f"{installed.error}\n{installed.output}")


def parse(package: str) -> tuple[str, str]:
    """`name[extra]==1.0` → (name, "==1.0"). Raises InvalidError for what is no package of an index."""
    match = _PACKAGE.fullmatch(_SPACED.sub(r"\1", package.strip()))
    if match is None or not _VERSIONS.fullmatch(match[2]):
        raise InvalidError(
            f"not a package: {package[:100]!r}",
            field="package",
            remedy="one name with an optional version, like numpy==1.26.4; no options, addresses or paths",
        )
    return match[1], match[2]


def _found(said: str) -> dict[str, str]:
    try:
        answer: Any = json.loads(said[:4096])
    except (ValueError, RecursionError):
        return {}
    if not isinstance(answer, dict):
        return {}
    return {str(key): bounds.cut(value, 100) for key, value in answer.items() if isinstance(value, str)}


def _same(wanted: str, version: str | None) -> bool:
    """Whether an exact version was asked for and is there; of ranges the caller has to judge."""
    return version is not None and wanted.lstrip("=").strip() == version and wanted.startswith("==")


def _closed(name: str, wanted: str, version: str | None) -> NetworkClosedError:
    other = f"{name} {version} is here, and no other version can be installed"
    there = other if version else f"{name} cannot be installed"
    return NetworkClosedError(
        f"{there}: packages come over the network, and this sandbox has none", package=name, installed_version=version
    )


TOOLS = (
    Tool(
        name="install_package",
        title="Install a Python package",
        description=(
            "Have a Python package in the sandbox: says so when it is there already, and else fetches it with pip "
            "where the network policy allows that. {network} What cannot be fetched is told at once (code "
            "network_closed or egress_denied). Many common packages may be there already: just import them."
        ),
        arguments=InstallArguments,
        outcome=Installed,
        run=install,
        idempotent=True,
        reaches_out=True,
    ),
)
