#!/usr/bin/env python3
"""Everything a developer does with this repository, with nothing but Python ≥ 3.11 and pip.

    python3 dev.py demo            run a first program in a sandbox
    python3 dev.py test [ARGS]     the tests (ARGS go to pytest)
    python3 dev.py help            the rest

The first call makes .venv from the hash-locked requirements; later calls redo only what has changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hatch_build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "cloche-stamps.json"
LOCKS = ROOT / "requirements"
#: a program, or a file, that is there once the package is
APT_FOR_TESTS = {
    "curl": "curl", "wget": "wget", "git": "git", "openssl": "openssl", "nginx": "nginx-light",
    "newuidmap": "uidmap", "dbus-daemon": "dbus-daemon", "node": "nodejs", "npm": "npm", "gpgv": "gpgv",
    "gpg": "gpg", "gpg-agent": "gpg-agent", "mkfs.erofs": "erofs-utils", "mkfs.ext4": "e2fsprogs",
    "rsync": "rsync", "busybox": "busybox", "dig": "bind9-dnsutils",
    "mmdebstrap": "mmdebstrap", "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}  # fmt: skip
APT_FOR_BENCHMARKS = {"bwrap": "bubblewrap", "tinyproxy": "tinyproxy-bin", "pasta": "passt"}
BENCHMARKS = {"--vm": "benchmarks.vm", "--net": "benchmarks.network"}
#: a client in another language for the tests of `cloche mcp`; what npm fetches is pinned by hashes
INSPECTOR = ROOT / ".cache" / "inspector"
#: what tests boot; scripts that say what cannot be had
PREPARED = ["scripts/prepare_vm.py", "scripts/prepare_debian_root.py"]
PRINTED = {"spec/openapi.json": ["-m", "cloche.api.openapi"]}
WRITTEN = [["scripts/generate_sync.py"], ["scripts/generate_reference.py"]]
DEMO = """
import os, socket
print("hello from", socket.gethostname(), "as", os.environ["USER"])
print("processes in sight:", sum(name.isdigit() for name in os.listdir("/proc")))
print("network interfaces:", [name for _, name in socket.if_nameindex()])
"""


def demo(arguments: list[str]) -> int:
    """Run a first program in a sandbox and say which isolation held it."""
    install()
    with private_home():
        print(f"$ cloche run -- python3 -c '{DEMO.strip()}'\n", flush=True)
        code = tool("cloche", "run", "--", "python3", "-c", DEMO)
        if code == 0:
            print(f"\nIt ran in a fresh sandbox, made by the engine {isolation()!r} and gone again by now.")
    return code


def isolation() -> str:
    doctor = subprocess.run([VENV / "bin" / "cloche", "doctor", "--json"], stdout=subprocess.PIPE)
    return str(json.loads(doctor.stdout).get("auto"))


def test(arguments: list[str]) -> int:
    """Run the tests; arguments go to pytest. As root it first installs the few packages that some of them need."""
    install("dev")
    set_up = not os.environ.get("CLOCHE_DEV_NO_SETUP")
    if set_up and os.geteuid() == 0:
        apt_install(APT_FOR_TESTS)
    if arguments:
        if set_up:
            prepare([])
        return venv_run("-m", "pytest", *arguments)
    both = ["-m", "pytest", "-q", "-n", "2"]
    # these need nothing of what is fetched meanwhile
    with meanwhile(sys.executable, str(ROOT / "dev.py"), "prepare") if set_up else contextlib.nullcontext():
        failed = go("test", "./...") or venv_run(*both, "tests/unit")
    if failed:
        return 1
    # each file with a data directory of its own; what has to have the machine for itself says so and comes last
    failed = venv_run(*both, "--dist", "loadfile", "--ignore=tests/unit", "-m", "not serial")
    return venv_run("-m", "pytest", "-q", "--ignore=tests/unit", "-m", "serial") or failed


def check(arguments: list[str]) -> int:
    """Everything that must hold before a change lands, except the tests; goes on after a failure and names them all."""
    install("dev")
    steps: dict[str, Callable[[], int]] = {
        "ruff format": lambda: tool("ruff", "format", "--check", "--quiet", "."),
        "ruff check": lambda: tool("ruff", "check", "--quiet", "."),
        "mypy": lambda: tool("mypy"),
        "import contracts": lambda: tool("lint-imports", "--no-cache"),
        "gofmt": gofmt_check,
        "go vet": lambda: go("vet", "./..."),
        "generated files": generated_check,
    }
    failed = []
    for name, step in steps.items():
        say(f"check: {name}")
        if step():
            failed.append(name)
    say(f"check: failed: {', '.join(failed)}" if failed else "check: all is well")
    return 1 if failed else 0


def format_sources(arguments: list[str]) -> int:
    """Format Python and Go and mend what can be mended by itself."""
    install("dev")
    steps = [tool("ruff", "check", "--fix", "--quiet", "."), tool("ruff", "format", "."), gofmt("-w")[0]]
    return max(steps)


def bench(arguments: list[str]) -> int:
    """Measure on this machine; --json for the figures (benchmarks/README.md)."""
    install()
    which = next((module for flag, module in BENCHMARKS.items() if flag in arguments), "benchmarks.run")
    return venv_run("-m", which, *(each for each in arguments if each not in BENCHMARKS))


def build(arguments: list[str]) -> int:
    """Build the guest and the launcher into src/cloche/_bin; `build wheel` makes a wheel in dist/ instead."""
    install()
    if arguments != ["wheel"]:
        return venv_run("hatch_build.py")
    return venv_run("-m", "hatchling", "build", "-t", "wheel", "-t", "sdist")


def dev_install(arguments: list[str]) -> int:
    """Make .venv with Cloche (editable) and the tools."""
    install("dev")
    say(f"ready: {PYTHON.parent}/cloche; or: . {PYTHON.parent}/activate")
    return 0


def setup(arguments: list[str]) -> int:
    """As root on Debian or Ubuntu: install the packages that some tests and benchmarks use, where they are missing."""
    install()
    return apt_install(APT_FOR_TESTS | APT_FOR_BENCHMARKS) or max(venv_run(script) for script in PREPARED)


def prepare(arguments: list[str]) -> int:
    """Fetch what some tests boot or call (`test` does it by itself); what cannot be had is said, and they skip."""
    install()
    install_inspector()
    return max(venv_run(script) for script in PREPARED)


def generate(arguments: list[str]) -> int:
    """Write the generated files anew."""
    install("dev")
    code = max([venv_run(*command) for command in WRITTEN], default=0)
    for path, command in PRINTED.items():
        (ROOT / path).write_text(printed(command))
    return code


def lock(arguments: list[str]) -> int:
    """Resolve requirements/*.in and pyproject.toml anew into the locked files (needs uv)."""
    uv = shutil.which("uv")
    if not uv:
        return fail("uv is needed to lock: python3 -m pip install uv")
    options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-header"]
    sources = {
        "runtime.txt": ["pyproject.toml"],
        "build.txt": ["requirements/build.in"],
        "go.txt": ["requirements/go.in"],
        "dev.txt": ["--group", "dev", "-c", "requirements/runtime.txt", "-c", "requirements/build.txt"],
    }
    for name, source in sources.items():
        argv = [uv, "pip", "compile", "--quiet", *options, *source, *arguments, "-o", f"requirements/{name}"]
        if subprocess.run(argv, cwd=ROOT).returncode:
            return 1
    return 0


def clean(arguments: list[str]) -> int:
    """Remove everything that these commands have made in the repository."""
    for name in (".venv", ".cache", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "build", "dist"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    shutil.rmtree(ROOT / "src/cloche/_bin", ignore_errors=True)
    for path in [p for top in ("src", "tests", "benchmarks") for p in (ROOT / top).rglob("__pycache__")]:
        shutil.rmtree(path, ignore_errors=True)
    return 0


def show_help(arguments: list[str]) -> int:
    """This list."""
    for name, command in COMMANDS.items():
        print(f"  python3 dev.py {name:12} {command.__doc__}")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": demo,
    "test": test,
    "check": check,
    "format": format_sources,
    "bench": bench,
    "build": build,
    "install": dev_install,
    "setup": setup,
    "prepare": prepare,
    "generate": generate,
    "lock": lock,
    "clean": clean,
    "help": show_help,
}


def install(*groups: str) -> None:
    """Bring .venv up to date with the locked requirements, the project and its two Go programs."""
    with one_at_a_time():
        make_venv()
        stamps = json.loads(STAMPS.read_text()) if STAMPS.exists() else {}
        for group in ("runtime", "build", *([] if has_go() else ["go"]), *groups):
            locked = LOCKS / f"{group}.txt"
            up_to_date(stamps, group, [locked], functools.partial(pip, "--require-hashes", "-r", str(locked)))
        sources = [ROOT / "pyproject.toml", ROOT / "hatch_build.py", ROOT / "src/cloche/_version.py"]
        up_to_date(
            stamps, "project", sources, lambda: pip("--no-deps", "--no-index", "--no-build-isolation", "-e", ".")
        )
        guest = [p for p in sorted((ROOT / "guest").rglob("*")) if p.suffix in (".go", ".mod", ".s")]
        up_to_date(stamps, "guest", [*sources, *guest], lambda: must(str(PYTHON), "hatch_build.py"))


def make_venv() -> None:
    """A venv of this Python; Debian's python3 comes without ensurepip, then the pip outside serves it."""
    alive = PYTHON.exists() and subprocess.run([PYTHON, "-c", ""], capture_output=True).returncode == 0
    wanted = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if alive and (VENV / "lib" / wanted).is_dir():
        return
    say(f"making {VENV.name} with Python {sys.version.split()[0]}")
    ensurepip = importlib.util.find_spec("ensurepip")
    own_pip = ensurepip is not None and ensurepip.origin is not None
    must(sys.executable, "-m", "venv", "--clear", *([] if own_pip else ["--without-pip"]), str(VENV))


def pip(*arguments: str) -> None:
    inside = any(VENV.glob("lib/python*/site-packages/pip"))
    if not inside and importlib.util.find_spec("pip") is None:
        sys.exit(fail("pip is missing: apt-get install python3-pip (or python3-venv)"))
    program = [str(PYTHON), "-m", "pip"] if inside else [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    must(*program, "--disable-pip-version-check", "install", "--quiet", *arguments)


def up_to_date(stamps: dict[str, str], name: str, inputs: list[Path], todo: Callable[[], None]) -> None:
    """Call `todo` unless it has been done for exactly this content of `inputs`."""
    digest = hashlib.sha256()
    for path in inputs:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    built = name != "guest" or (ROOT / "src/cloche/_bin/cloche-launcher").exists()
    if stamps.get(name) == digest.hexdigest() and built:
        return
    say(f"installing: {name}")
    todo()
    stamps[name] = digest.hexdigest()
    STAMPS.write_text(json.dumps(stamps))


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache" / "dev.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def private_home() -> Iterator[Path]:
    """A data directory in CLOCHE_HOME for a while; afterwards its sandboxes, its node and itself are gone."""
    before = os.environ.get("CLOCHE_HOME")
    with tempfile.TemporaryDirectory(prefix="cloche-", ignore_cleanup_errors=True) as home:
        os.environ["CLOCHE_HOME"] = home
        try:
            yield Path(home)
        finally:
            end_node(Path(home))
            os.environ.pop("CLOCHE_HOME")
            os.environ.update({"CLOCHE_HOME": before} if before else {})


def end_node(home: Path) -> None:
    """Ask the node of `home` to end its sandboxes and itself, and wait until it has let go of its lock."""
    body = b'{"stop_sandboxes": true}'
    head = f"POST /v1/node/shutdown HTTP/1.1\r\nHost: node\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(home / "node.sock"))
        client.sendall(head.encode() + body)
        while client.recv(4096):
            pass
    with contextlib.suppress(OSError), (home / "node.lock").open() as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)


def is_there(name: str) -> bool:
    return os.path.exists(name) if name.startswith("/") else shutil.which(name) is not None


def apt_install(programs: dict[str, str]) -> int:
    missing = [package for name, package in programs.items() if not is_there(name)]
    if not missing:
        return 0
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return fail(f"missing here: {', '.join(missing)}; as root: {' '.join(command)}")
    say(f"installing system packages: {', '.join(missing)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "update"], command):
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        if done.returncode:
            return fail(f"{' '.join(argv)} failed: {done.stderr.strip()[-500:]}")
    return 0


def install_inspector() -> None:
    """Fetch the MCP Inspector's command line unless it is there; the tests that need it skip where that fails."""
    sources = [ROOT / "tests/integration/inspector" / name for name in ("package.json", "package-lock.json")]
    npm, stamp = shutil.which("npm"), INSPECTOR / "node_modules" / ".from-lock"
    if not npm or (stamp.exists() and stamp.read_bytes() == sources[1].read_bytes()):
        return
    say("installing: the MCP Inspector")
    INSPECTOR.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copy(source, INSPECTOR)
    argv = ["timeout", "300", npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    fetched = subprocess.run(argv, cwd=INSPECTOR, capture_output=True, text=True)
    if fetched.returncode:
        fail(f"npm ci failed, so the tests with the MCP Inspector skip: {fetched.stderr.strip()[-300:]}")
    else:
        stamp.write_bytes(sources[1].read_bytes())


def has_go() -> bool:
    return hatch_build.go_on_path() is not None


def go(*arguments: str) -> int:
    return venv_run("hatch_build.py", "go", *arguments)


def gofmt(*arguments: str) -> tuple[int, str]:
    argv = [str(PYTHON), "hatch_build.py", "gofmt", *arguments, "."]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout


def gofmt_check() -> int:
    code, differs = gofmt("-l")
    return fail(f"not formatted: {differs.split()}") if differs else code


def generated_check() -> int:
    stale = [path for path, command in PRINTED.items() if (ROOT / path).read_text() != printed(command)]
    code = max([venv_run(*command, "--check") for command in WRITTEN], default=0)
    return fail(f"stale: {', '.join(stale)}; write them anew: python3 dev.py generate") if stale else code


def printed(command: list[str]) -> str:
    return subprocess.run([PYTHON, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def tool(name: str, *arguments: str) -> int:
    return run(str(VENV / "bin" / name), *arguments)


def venv_run(*arguments: str) -> int:
    return run(str(PYTHON), *arguments)


def run(*argv: str) -> int:
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return subprocess.run(argv, cwd=ROOT, env=os.environ | {"PATH": path}).returncode


@contextlib.contextmanager
def meanwhile(*argv: str) -> Iterator[None]:
    """Run a program beside what is done in here, and wait for it; what it says comes at the end, in one piece."""
    with tempfile.TemporaryFile() as said:
        try:
            with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said):
                yield
        finally:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
            sys.stderr.flush()


def must(*argv: str) -> None:
    code = subprocess.run(argv, cwd=ROOT).returncode
    if code:
        sys.exit(fail(f"failed with status {code}: {' '.join(argv)}"))


def say(text: str) -> None:
    print(f"• {text}", file=sys.stderr, flush=True)


def fail(text: str) -> int:
    print(f"dev.py: {text}", file=sys.stderr, flush=True)
    return 1


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):
        return fail(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    command = COMMANDS.get(arguments[0]) if arguments else show_help
    if not command:
        show_help([])
        return fail(f"no such command: {arguments[0]}") + 1
    return command(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
