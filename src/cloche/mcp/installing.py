"""One package fetched inside a sandbox by its own pip, and what is to be said when that did not work."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping

from cloche.mcp import bounds, refused
from cloche.model.errors import ClocheError, UnavailableError
from cloche.sdk._async.sandbox import AsyncSandbox
from cloche.sdk.values import ExecResult

MAX_OUTPUT_BYTES = 64 << 10
#: of pip's own settings on this machine, those that say where packages come from; the later of two wins
_PLACES = re.compile(r"^(global|install|:env:)\.(index-url|extra-index-url|trusted-host)='([^'\n]{1,2000})'$", re.M)
_ORDER = ("global", "install", ":env:")
PIP_SECONDS = 10.0
#: in the user's own directory, where it needs no rights: the sandbox is nobody's system, whatever pip thinks
_PIP = (
    "python3", "-m", "pip", "install", "--user", "--no-input", "--disable-pip-version-check",
    "--no-warn-script-location", "--root-user-action=ignore", "--retries=1", "--",
)  # fmt: skip
#: an interpreter that runs already looks for packages where there were some when it began
_REFRESH = (
    "import importlib as _i, site as _s; _s.addsitedir(_s.getusersitepackages()); _i.invalidate_caches(); del _i, _s"
)


class NetworkRefusedError(UnavailableError):
    """The network policy does not allow what the work needs."""

    code = "egress_denied"
    usual_remedy = "ask the user to allow these hosts: `cloche mcp --net …`, or `cloche policy allow` for this sandbox"


async def install(box: AsyncSandbox, package: str, seconds: float) -> ExecResult:
    """Run pip → what it did. Raises NetworkRefusedError, UnavailableError where there is no pip."""
    began = time.time()
    env = {"PIP_BREAK_SYSTEM_PACKAGES": "1", **await _machine_settings()}
    done = await box.exec(*_PIP, package, env=env, timeout_seconds=seconds, max_output_bytes=MAX_OUTPUT_BYTES)
    if done.exit_code == 0:
        await _refresh(box)
        return done
    if "No module named pip" in done.stderr:
        remedy = "ask the user to install it on this machine: apt-get install python3-pip"
        raise UnavailableError("the sandbox's Python has no pip", remedy=remedy)
    if hosts := await refused.since(box, began):
        said = f"{package} cannot be fetched: the network policy refused {hosts}"
        raise NetworkRefusedError(said, output=tail(done))
    return done


def tail(done: ExecResult) -> str:
    """What pip said, bounded."""
    return bounds.cut(f"{done.stdout}{done.stderr}", 8192)


def places(said: str) -> dict[str, str]:
    """The variables by which a pip inside looks where the machine's own does, of what `pip config list` printed. An
    address with a password in it stays outside."""
    found = sorted(_PLACES.findall(said), key=lambda setting: _ORDER.index(setting[0]))
    return {f"PIP_{name.upper().replace('-', '_')}": value for _, name, value in found if "@" not in value}


async def _machine_settings() -> Mapping[str, str]:
    from cloche.sdk._async import bridge

    return await bridge.in_thread(_asked)


def _asked() -> dict[str, str]:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return places(done.stdout)
    return {}


async def _refresh(box: AsyncSandbox) -> None:
    with contextlib.suppress(ClocheError):
        if any(one.info.default and one.language == "python" for one in await box.contexts.list()):
            await box.run_code(_REFRESH, timeout_seconds=30.0)
