"""Run the benchmarks and print a table, or JSON with --json. See README.md beside this file."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys

from benchmarks.machine import facts
from benchmarks.measure import Contestant, race
from benchmarks.ours import ours
from benchmarks.peers import peers
from dev import private_home


def main() -> int:
    arguments = _arguments()
    machine = facts()
    contestants = [one for one in [*ours(), *peers()] if arguments.only in f"{one.group}: {one.name}"]
    with private_home():
        race(contestants, arguments.rounds)
    machine["load_after"] = round(os.getloadavg()[0], 2)
    if arguments.json:
        print(json.dumps({"machine": machine, "results": [one.row() for one in contestants]}, indent=2))
    else:
        _print_table(machine, contestants)
    return 1 if any(one.unavailable for one in contestants if one in contestants[: len(ours())]) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="samples of each contestant; slow peers get fewer")
    parser.add_argument("--only", default="", help="run what has this text in its group and name")
    parser.add_argument("--json", action="store_true", help="machine facts and figures as JSON on stdout")
    return parser.parse_args()


def _print_table(machine: dict[str, str | int | float], contestants: list[Contestant]) -> None:
    for key, value in machine.items():
        print(f"{key:12} {value}")
    ordered = sorted((one.row() for one in contestants), key=lambda row: str(row["group"]))
    for group, rows in itertools.groupby(ordered, key=lambda row: row["group"]):
        print(f"\n{group + ' (ms)':36}{'median':>9}{'p95':>9}{'min':>9}{'n':>5}")
        for row in sorted(rows, key=lambda row: float(str(row.get("median_ms", "inf")))):
            print(_line(row))


def _line(row: dict[str, object]) -> str:
    name = f"  {row['name']}"
    if "unavailable" in row:
        return f"{name:36} not here: {row['unavailable']}"
    return f"{name:36}{row['median_ms']:9.2f}{row['p95_ms']:9.2f}{row['min_ms']:9.2f}{row['n']:5}"


if __name__ == "__main__":
    sys.exit(main())
