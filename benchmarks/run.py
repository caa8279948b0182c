"""Run the benchmarks and print a table, or JSON with --json. See README.md beside this file."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterable

from benchmarks import density, streams, sustained
from benchmarks.figures import Figure, Study
from benchmarks.machine import facts
from benchmarks.measure import Contestant, race
from benchmarks.ours import ours
from benchmarks.peers import peers
from dev import private_home


def main() -> int:
    arguments = _arguments()
    machine = facts()
    mine = [one for one in ours() if _wanted(arguments.only, one.group, one.name)]
    others = [one for one in peers() if _wanted(arguments.only, one.group, one.name)]
    contestants = [*mine, *others]
    with private_home():
        race(contestants, arguments.rounds)
    figures, failed = _studied([one for one in _studies(arguments) if _wanted(arguments.only, one.group, "")])
    machine["load_after"] = round(os.getloadavg()[0], 2)
    if arguments.json:
        results = [*(one.row() for one in contestants), *(one.row() for one in figures)]
        print(json.dumps({"machine": machine, "results": results}, indent=2))
    else:
        _print_tables(machine, contestants, figures)
    return 1 if failed or any(one.unavailable for one in mine) else 0


def _wanted(only: str, group: str, name: str) -> bool:
    return only in f"{group}: {name}"


def _studies(arguments: argparse.Namespace) -> list[Study]:
    return [] if arguments.quick else [streams.study(), sustained.study(), density.study(arguments.sandboxes)]


def _studied(studies: Iterable[Study]) -> tuple[list[Figure], bool]:
    found: list[Figure] = []
    failed = False
    for study in studies:
        with private_home():
            try:
                found += study.run()
            except Exception as error:  # the others go on, and the status says it
                failed = True
                print(f"{study.group}: {error}", file=sys.stderr)
    return found, failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="samples of each contestant; slow peers get fewer")
    parser.add_argument("--only", default="", help="run what has this text in its group and name")
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes: streams, rates, memory")
    parser.add_argument("--sandboxes", type=int, default=500, help="how many idle ones are measured at once")
    parser.add_argument("--json", action="store_true", help="machine facts and figures as JSON on stdout")
    return parser.parse_args()


def _print_tables(machine: dict[str, str | int | float], contestants: list[Contestant], figures: list[Figure]) -> None:
    for key, value in machine.items():
        print(f"{key:12} {value}")
    ordered = sorted((one.row() for one in contestants), key=lambda row: str(row["group"]))
    for group, rows in itertools.groupby(ordered, key=lambda row: row["group"]):
        print(f"\n{group + ' (ms)':44}{'median':>9}{'p95':>9}{'min':>9}{'n':>5}{'goal':>9}")
        for row in sorted(rows, key=lambda row: float(str(row.get("median_ms", "inf")))):
            print(_line(row))
    for group, found in itertools.groupby(figures, key=lambda one: one.group):
        print(f"\n{group}")
        for figure in found:
            print(figure_line(figure))


def _line(row: dict[str, object]) -> str:
    name = f"  {row['name']}"
    if "unavailable" in row:
        return f"{name:44} not here: {row['unavailable']}"
    goal = f"{row['goal_ms']:9}" if "goal_ms" in row else ""
    return f"{name:44}{row['median_ms']:9.2f}{row['p95_ms']:9.2f}{row['min_ms']:9.2f}{row['n']:5}{goal}"


def figure_line(figure: Figure) -> str:
    goal = ""
    if figure.goal is not None:
        goal = f"  (goal {'≥' if figure.more_is_better else '≤'} {figure.goal:g}: {'met' if figure.met else 'missed'})"
    return f"  {figure.name:50}{figure.value:10.2f} {figure.unit}{goal}"


if __name__ == "__main__":
    sys.exit(main())
