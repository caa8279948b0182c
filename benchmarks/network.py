"""What the door costs: latency of a connection, bytes a second, memory of open connections, TLS that it ends; and the
same through nothing, pasta, tinyproxy, squid and mitmproxy in the same run.

`python3 dev.py bench --net` runs it. All is on loopback: a server that has a name, and a DNS server that knows it."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import network_peers as peers
from benchmarks.figures import Figure
from benchmarks.machine import facts
from benchmarks.measure import Unavailable, WrongResult
from benchmarks.network_world import NAME, World, world
from benchmarks.processes import rss_mib
from dev import private_home

if TYPE_CHECKING:
    from cloche import Sandbox

GROUP = "network"
BULK, TLS_BULK = 1 << 30, 256 << 20
MANY, HELD = 100, 1000
#: of the host, whose answers are searched for each of them
SECRETS = (0, 1, 10, 32)
#: best of these: what else the machine does only slows down
ATTEMPTS = 3
Way = Callable[[World, Path], AbstractContextManager[peers.Client]]
OTHERS: dict[str, Way] = {
    "direct": peers.direct, "pasta": peers.pasta, "tinyproxy": peers.tinyproxy, "squid": peers.squid,
    "mitmproxy": peers.mitmproxy,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="connections of a latency")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="", help="part of a way's name: cloche, direct, pasta …")
    arguments = parser.parse_args()
    found = facts()
    with tempfile.TemporaryDirectory(prefix="cloche-benchmark-") as place, world(Path(place)) as there:
        figures = [*_cloche(there, arguments), *_others(there, Path(place), arguments)]
    if arguments.json:
        print(json.dumps({"machine": found, "results": [each.row() for each in figures]}, indent=2))
    else:
        _print(found, figures)
    return 0


def _cloche(there: World, arguments: argparse.Namespace) -> Iterator[Figure]:
    if arguments.only not in "cloche":
        return
    os.environ |= {"CLOCHE_DNS": f"127.0.0.1:{there.dns}", "CLOCHE_UPSTREAM_CA": str(there.authorities)}
    from cloche import Sandbox

    with private_home():
        with Sandbox.create(net=_policy(there, inspect=False), memory="1g", cpus=2) as sandbox:
            sandbox.files.write("client.py", peers.CLIENT.read_bytes())
            yield from _passed(sandbox, there, arguments.rounds)
        for count in SECRETS:
            given = [_secret(number) for number in range(count)]
            with Sandbox.create(net=_policy(there, inspect=True), secrets=given, memory="1g", cpus=2) as sandbox:
                sandbox.files.write("client.py", peers.CLIENT.read_bytes())
                yield from _inspected(sandbox, there, count)


def _policy(there: World, *, inspect: bool) -> Any:
    from cloche.model.egress import EgressPolicy, EgressRule

    rule = EgressRule(
        hosts=[NAME], ports=[str(there.plain), str(there.tls)], addresses=["127.0.0.0/8"],
        tls="inspect" if inspect else "pass",
    )  # fmt: skip
    return EgressPolicy(rules=[rule])


def _passed(sandbox: Sandbox, there: World, rounds: int) -> Iterator[Figure]:
    client = _inside(sandbox)
    for way, proxy in {"redirect": None, "proxy": ["127.0.0.1", 15080]}.items():
        yield from _latency(f"cloche, {way}", _with(client, proxy=proxy), there, rounds)
        yield from _rates(f"cloche, {way}", _with(client, proxy=proxy), there)
    yield from _http("cloche, redirect", client, there)
    yield from _memory(sandbox, there)


def _secret(number: int) -> str:
    """Of the length that tokens have; the answers do not contain it, so each byte of them is searched to its end."""
    os.environ[f"TOKEN_{number}"] = f"tok_{secrets.token_hex(18)}"
    return f"TOKEN_{number}@{NAME}"


def _with(client: peers.Client, **more: Any) -> peers.Client:
    return lambda asked: client({**asked, **more})


def _inspected(sandbox: Sandbox, there: World, secret_count: int) -> Iterator[Figure]:
    client = _inside(sandbox)
    searched = {0: "", 1: ", 1 secret"}.get(secret_count, f", {secret_count} secrets")
    yield from _https(f"cloche, TLS ended{searched}", _with(client, authorities=None), there)


def _inside(sandbox: Sandbox) -> peers.Client:
    def run(asked: dict[str, Any]) -> dict[str, Any]:
        done = sandbox.exec("python3", "client.py", json.dumps(asked))
        if done.exit_code:
            raise WrongResult(done.stderr[-500:])
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def _others(there: World, place: Path, arguments: argparse.Namespace) -> Iterator[Figure]:
    for name, way in OTHERS.items():
        if arguments.only not in name:
            continue
        try:
            with way(there, place) as client:
                if name == "mitmproxy":
                    yield from _https(name, client, there)
                    continue
                yield from _latency(name, client, there, arguments.rounds)
                yield from _rates(name, client, there)
                yield from _http(name, client, there)
        except Unavailable as error:
            print(f"{name}: {error}", file=sys.stderr)


def _latency(name: str, client: peers.Client, there: World, rounds: int) -> Iterator[Figure]:
    client({"mode": "latency", "to": [NAME, there.plain], "rounds": 20})
    found = client({"mode": "latency", "to": [NAME, there.plain], "rounds": rounds})["milliseconds"]
    cuts = statistics.quantiles(found, n=20)
    yield Figure(GROUP, f"{name}: new connection, p50", statistics.median(found), "ms")
    yield Figure(GROUP, f"{name}: new connection, p95", cuts[18], "ms")


def _rates(name: str, client: peers.Client, there: World) -> Iterator[Figure]:
    ours = name.startswith("cloche")
    for streams, goal in ((1, 250.0), (MANY, 200.0)):
        asked = {"mode": "bulk", "to": [NAME, there.plain], "bytes": BULK, "streams": streams}
        best = max(client(asked)["mb_per_second"] for _ in range(ATTEMPTS))
        many = f"{streams} streams" if streams > 1 else "one stream"
        yield Figure(GROUP, f"{name}: {many}", best, "MB/s", goal if ours else None, more_is_better=True)


def _http(name: str, client: peers.Client, there: World) -> Iterator[Figure]:
    asked = {"mode": "http", "to": [NAME, there.plain], "bytes": BULK}
    best = max(client(asked)["mb_per_second"] for _ in range(ATTEMPTS))
    yield Figure(GROUP, f"{name}: one plain HTTP answer", best, "MB/s", more_is_better=True)


def _https(name: str, client: peers.Client, there: World) -> Iterator[Figure]:
    asked = {"mode": "https", "to": [NAME, there.tls], "bytes": TLS_BULK, "name": NAME,
             "authorities": str(there.authorities)}  # fmt: skip
    best = max(client(asked)["mb_per_second"] for _ in range(ATTEMPTS))
    goal = 80.0 if name.startswith("cloche") else None
    yield Figure(GROUP, f"{name}: one HTTPS answer", best, "MB/s", goal, more_is_better=True)


def _memory(sandbox: Sandbox, there: World) -> Iterator[Figure]:
    """Of node and door process together, for connections that have each carried something."""
    from cloche import Node

    node = int(Node().health()["pid"])
    whose = [node, *_children(node)]
    before = sum(rss_mib(pid) for pid in whose)
    asked = {"mode": "hold", "to": [NAME, there.plain], "count": HELD}
    process = sandbox.spawn("python3", "client.py", json.dumps(asked), stdin=True)
    _await_line(process)
    after = sum(rss_mib(pid) for pid in whose)
    process.close_stdin()
    process.wait()
    yield Figure(GROUP, f"cloche: {HELD} open connections, more memory in the node", after - before, "MiB", 60.0)


def _await_line(process: Any) -> None:
    for data in process.stdout:
        if b"held" in data:
            return
    raise WrongResult("the connections were not all opened")


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _print(machine: dict[str, Any], figures: list[Figure]) -> None:
    print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    width = max((len(each.name) for each in figures), default=0)
    for each in figures:
        goal = "" if each.goal is None else f"  goal {each.goal:g} {'met' if each.met else 'missed'}"
        print(f"{each.name:{width}}  {each.value:10.2f} {each.unit}{goal}")


if __name__ == "__main__":
    sys.exit(main())
