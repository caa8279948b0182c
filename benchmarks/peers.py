"""What else can run `true` in isolation on this machine. All see the host's own /usr, as Cloche's image `host` does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Action, Contestant, Unavailable, WrongResult, command

IMAGE = "cloche-benchmark:host"
UNIFIED = Path("/sys/fs/cgroup/unified")
#: their own would be higher than a machine without CAP_SYS_RESOURCE allows
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
LINKS = [name for name in ("bin", "lib", "lib64", "sbin") if Path("/", name).is_symlink()]


def peers() -> list[Contestant]:
    plain = {
        "true on the host": ["true"],
        "unshare": ["unshare", "-Urmpin", "--fork", "--mount-proc", "true"],
        "bwrap": ["bwrap", "--unshare-all", *_bwrap_root(), "true"],
    }
    found = [Contestant(name, "one command", _plain(argv)) for name, argv in plain.items()]
    found += [Contestant(name, "one command", _oci(name), every=4) for name in ("crun", "runc")]
    found += [Contestant(name, "one command", _containers(name), every=8) for name in ("podman", "docker")]
    return found


def _bwrap_root() -> list[str]:
    links = [part for name in LINKS for part in ("--symlink", os.readlink(f"/{name}"), f"/{name}")]
    return ["--ro-bind", "/usr", "/usr", *links, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]


def _plain(argv: list[str]) -> Any:
    @contextlib.contextmanager
    def prepare() -> Iterator[Action]:
        _need(argv[0])
        yield command(argv)

    return prepare


def _oci(runtime: str) -> Any:
    @contextlib.contextmanager
    def prepare() -> Iterator[Action]:
        _need(runtime)
        with tempfile.TemporaryDirectory(prefix="cloche-benchmark-") as bundle:
            _write_bundle(runtime, Path(bundle))
            yield _first_that_runs([runtime, "run", "--bundle", bundle, f"cloche-benchmark-{os.getpid()}"])

    return prepare


def _containers(program: str) -> Any:
    @contextlib.contextmanager
    def prepare() -> Iterator[Action]:
        _need(program)
        with tempfile.TemporaryDirectory(prefix="cloche-benchmark-") as scratch:
            archive = _write_archive(Path(scratch))
            _must([program, "import", str(archive), IMAGE])
        try:
            yield _first_that_runs(
                [program, "run", *LIMITS, "--rm", "--network=none", "-v", "/usr:/usr:ro", IMAGE, "/usr/bin/true"]
            )
        finally:
            subprocess.run([program, "rmi", "-f", IMAGE], capture_output=True)

    return prepare


def _first_that_runs(argv: list[str]) -> Action:
    """As it is, or where version 1 and 2 of cgroups are both mounted, which some cannot take, without the second."""
    try:
        command(argv)()
    except WrongResult:
        if os.geteuid() or not UNIFIED.is_dir():
            raise
        argv = ["unshare", "-m", "sh", "-c", f'umount -l {UNIFIED}; exec "$@"', "sh", *argv]
    return command(argv)


def _write_archive(scratch: Path) -> Path:
    root = scratch / "root"
    _write_root(root)
    archive = scratch / "root.tar"
    _must(["tar", "-C", str(root), "-cf", str(archive), "."])
    return archive


def _write_root(root: Path) -> None:
    for name in ("usr", "proc", "dev", "tmp", "etc", "sys"):
        (root / name).mkdir(parents=True)
    for name in LINKS:
        (root / name).symlink_to(os.readlink(f"/{name}"))


def _write_bundle(runtime: str, bundle: Path) -> None:
    _write_root(bundle / "rootfs")
    _must([runtime, "spec", *([] if os.geteuid() == 0 else ["--rootless"])], cwd=bundle)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"args": ["/usr/bin/true"], "terminal": False}
    spec["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]})
    (bundle / "config.json").write_text(json.dumps(spec))


def _need(program: str) -> None:
    if not shutil.which(program):
        raise Unavailable("not installed")


def _must(argv: list[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{argv[0]} does not answer") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed"]
        raise Unavailable(f"{argv[0]} {argv[1]}: {lines[-1][:100]}")
