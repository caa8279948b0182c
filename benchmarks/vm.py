"""What virtual machines cost: boot, clone, fork, memory, commands, files; and a bare QEMU beside them as the floor.

`python3 dev.py bench --vm` runs it. The engine must have been set up (`cloche setup vm`): its kernel and its image of
/usr are taken from the data directory of whoever runs this. Every figure names the accelerator."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.bare_qemu import BareQemu
from benchmarks.figures import Figure
from benchmarks.machine import facts
from benchmarks.processes import cpu_seconds, pss_kib
from dev import private_home

if TYPE_CHECKING:
    from cloche import Sandbox

MEMORY = "256m"
CLONES = 10
MIB = 1 << 20
FILE_MIB = 64
#: how long a figure's machines are left alone first, so that what waits for the next one has been made
SETTLED_SECONDS = 2.0
#: a line each time it gets the processor; what is missing between two is how long it stood still
TICKS = "import sys,time\nwhile True:\n print(1,flush=True)\n time.sleep(0.005)"


def main() -> int:
    arguments = _arguments()
    found = facts()
    group = f"virtual machines ({_accelerator(arguments.home)})"
    figures: list[Figure] = []
    for study in (_cold, _clones, _forks, _waiting, _idle):
        with _node(arguments, study) as image:
            figures += [Figure(group, *rest) for rest in study(image, arguments.rounds)]
    if arguments.json:
        print(json.dumps({"machine": found, "results": [each.row() for each in figures]}, indent=2))
    else:
        _print(found, figures)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="samples of what is quick; a quarter of what boots")
    parser.add_argument("--image", default="host", help="host, or the path of a root directory")
    home = os.environ.get("CLOCHE_HOME") or os.path.expanduser("~/.local/share/cloche")
    parser.add_argument("--home", type=Path, default=Path(home), help="a data directory that was set up")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _accelerator(home: Path) -> str:
    from cloche.engines.vm.ground import accelerator

    return accelerator(home).upper()


@contextlib.contextmanager
def _node(arguments: argparse.Namespace, study: Callable[..., Any]) -> Iterator[str]:
    """A node of its own for each study, as each asks for other settings, on the kernel and images that are there."""
    settings = {_cold: {"CLOCHE_VM_TEMPLATES": "0"}, _clones: {"CLOCHE_VM_STANDBY": "0"}}.get(study, {})
    os.environ.update(settings)
    try:
        with private_home() as home:
            for name in ("vm", "images"):
                os.symlink(arguments.home / name, Path(home) / name)
            yield arguments.image
    finally:
        for name in settings:
            del os.environ[name]


def _create(image: str) -> Sandbox:
    from cloche import Sandbox

    return Sandbox.create(engine="vm", image=image, memory=MEMORY)


def _median(samples: list[float]) -> float:
    return round(statistics.median(samples) * 1000, 1)


def _first_exec(image: str, rounds: int, pause: float = 0.0) -> list[float]:
    samples = []
    for _ in range(rounds):
        time.sleep(pause)
        began = time.perf_counter()
        sandbox = _create(image)
        _succeed(sandbox)
        samples.append(time.perf_counter() - began)
        sandbox.remove()
    return samples


def _succeed(sandbox: Sandbox) -> None:
    if sandbox.exec("true").exit_code:
        raise RuntimeError("true is not true")


def _cold(image: str, rounds: int) -> Iterator[tuple[Any, ...]]:
    yield "cold boot to first exec", _median(_first_exec(image, max(3, rounds // 4))), "ms", 1300


def _clones(image: str, rounds: int) -> Iterator[tuple[Any, ...]]:
    _first_exec(image, 2)
    yield "clone of a template to first exec, nothing waits", _median(_first_exec(image, rounds)), "ms", 80
    bare = BareQemu(Path(os.environ["CLOCHE_HOME"]), image)
    yield "bare QEMU, clone to first answer (floor)", _median([bare.once() for _ in range(rounds)]), "ms"
    samples = []
    with _create(image) as sandbox:
        for _ in range(rounds * 3):
            began = time.perf_counter()
            _succeed(sandbox)
            samples.append(time.perf_counter() - began)
        yield "exec true in a running one", _median(samples), "ms", 15
        yield from _files(sandbox)


def _files(sandbox: Sandbox) -> Iterator[tuple[Any, ...]]:
    content = os.urandom(FILE_MIB * MIB)
    ups, downs = [], []
    for _ in range(3):
        began = time.perf_counter()
        sandbox.files.write("big", content)
        ups.append(time.perf_counter() - began)
        began = time.perf_counter()
        if sandbox.files.read_bytes("big") != content:
            raise RuntimeError("the file is another one")
        downs.append(time.perf_counter() - began)
    for name, samples in (("up", ups), ("down", downs)):
        yield f"files {name}", round(FILE_MIB * MIB / 1e6 / min(samples), 1), "MB/s", 60, True


def _waiting(image: str, rounds: int) -> Iterator[tuple[Any, ...]]:
    _first_exec(image, 1)
    waited = _first_exec(image, rounds, SETTLED_SECONDS)
    yield "create to first exec, one waits", _median(waited), "ms", 45


def _forks(image: str, rounds: int) -> Iterator[tuple[Any, ...]]:
    answers, stood, many = [], [], []
    with _create(image) as parent:
        parent.exec("sh", "-c", "dd if=/dev/urandom of=/tmp/used bs=1M count=20 2>/dev/null")
        for number in range(max(4, rounds // 2)):
            with _ticking(parent) as gaps:
                began = time.perf_counter()
                (child,) = parent.fork(1)
                _succeed(child)
                answers.append(time.perf_counter() - began)
            stood.append(max(gaps))
            child.remove()
            if number < 3:
                many.append(_fork_many(parent))
    yield "fork, the child's first exec", _median(answers), "ms", 350
    yield "fork, the parent stands still", _median(stood), "ms", 250
    yield f"{CLONES} forks at once, each answers", _median(many), "ms", 600


def _fork_many(parent: Sandbox) -> float:
    began = time.perf_counter()
    children = parent.fork(CLONES)
    with ThreadPoolExecutor(CLONES) as pool:
        list(pool.map(_succeed, children))
        took = time.perf_counter() - began
        list(pool.map(lambda child: child.remove(), children))
    return took


@contextlib.contextmanager
def _ticking(parent: Sandbox) -> Iterator[list[float]]:
    """The gaps between two signs of life of a process inside, as they are seen from here."""
    gaps: list[float] = []
    process = parent.spawn("python3", "-uc", TICKS)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(_watch, process, gaps)
        while len(gaps) < 20:
            time.sleep(0.01)
        gaps.clear()
        yield gaps
        time.sleep(0.1)
        process.kill()
        watching.result()


def _watch(process: Any, gaps: list[float]) -> None:
    last = time.perf_counter()
    for _ in process.stdout:
        now = time.perf_counter()
        gaps.append(now - last)
        last = now


def _idle(image: str, rounds: int) -> Iterator[tuple[Any, ...]]:
    made = [_create(image) for _ in range(CLONES)]
    try:
        time.sleep(SETTLED_SECONDS)
        pids = [pid for sandbox in made for pid in _monitors(sandbox.id)]
        yield f"memory of an idle clone of {CLONES} (PSS)", sum(map(pss_kib, pids)) / 1024 / CLONES, "MiB", 30
        before = sum(map(cpu_seconds, pids))
        time.sleep(10)
        yield "CPU of each in 10 s", (sum(map(cpu_seconds, pids)) - before) / CLONES, "s"
    finally:
        for sandbox in made:
            sandbox.remove()


def _monitors(sandbox_id: str) -> list[int]:
    """QEMU and its supervisor."""
    written = json.loads(Path(os.environ["CLOCHE_HOME"], "run", sandbox_id, "supervisor.json").read_text())
    return [int(written["init_pid"]), int(written["supervisor_pid"])]


def _print(found: dict[str, Any], figures: list[Figure]) -> None:
    from benchmarks.run import figure_line

    for key, value in found.items():
        print(f"{key:12} {value}")
    print(f"\n{figures[0].group}")
    for figure in figures:
        print(figure_line(figure))


if __name__ == "__main__":
    sys.exit(main())
