"""`cloche stats`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence

import click

from cloche.cli import arguments, interrupts, render, usage
from cloche.model.errors import InvalidError, NotFoundError
from cloche.sdk._sync.node import Node

HEADINGS = ("NAME", "ID", "STATE", "CPU", "MEM", "LIMIT", "MEM %", "DISK", "PROCS", "PIDS", "EGRESS")
DROPPED = ("PIDS", "EGRESS", "STATE", "LIMIT", "ID", "MEM %", "PROCS", "DISK")
MIN_PREFIX = 4


@click.command("stats")
@click.option("-f", "--follow", is_flag=True, help="Go on also where standard output is no terminal.")
@click.option("--once", "--no-stream", "once", is_flag=True, help="Print one table and end.")
@click.option("--interval", type=arguments.DURATION, default="2s", show_default=True, help="How often to look.")
@arguments.json_flag
@click.argument("boxes", nargs=-1, metavar="[BOX…]")
def command(follow: bool, once: bool, interval: float, as_json: bool, boxes: tuple[str, ...]) -> int:
    """Show what sandboxes use.

    Of all that live, or of those that are named. On a terminal it goes on until Ctrl-C, elsewhere it prints once. CPU
    is in percent of one CPU. With --json: exact numbers, one object a line when it goes on.
    """
    if follow and once:
        raise InvalidError("--follow and --once are the opposite of each other")
    goes_on = follow or (not once and sys.stdout.isatty())
    with interrupts.orderly():
        looks = _looks(boxes, interval)
        try:
            if not goes_on:
                _print(next(looks), as_json)
            elif as_json:
                _stream(looks)
            else:
                _live(looks)
        except KeyboardInterrupt:
            return 0
    return 0


def _looks(boxes: Sequence[str], interval: float) -> Iterator[list[usage.Track]]:
    node, history = Node(), usage.History()
    history.take(node.stats())
    _chosen(list(history.tracks.values()), boxes)
    time.sleep(min(usage.FIRST_SECONDS, interval))
    while True:
        yield _chosen(history.take(node.stats()), boxes, ended=True)
        time.sleep(max(0.05, interval))


def _chosen(tracks: list[usage.Track], boxes: Sequence[str], *, ended: bool = False) -> list[usage.Track]:
    """Those that are named. Raises NotFoundError for one that is not there, unless it may have `ended` meanwhile."""
    if not boxes:
        return tracks
    found = {track.id: track for box in boxes for track in _named(tracks, box, ended)}
    return [track for track in tracks if track.id in found]


def _named(tracks: list[usage.Track], box: str, ended: bool) -> list[usage.Track]:
    exact = [track for track in tracks if box in (track.id, track.sandbox.name)]
    is_prefix = box.lower().startswith("sb_") and len(box) >= len("sb_") + MIN_PREFIX
    begins = [track for track in tracks if is_prefix and track.id.startswith(box.lower())]
    found = exact or begins
    if not found and not ended:
        raise NotFoundError(f"no sandbox {box!r} lives", remedy="cloche ls")
    if len(found) > 1:
        raise InvalidError(f"{box!r} could be any of {len(found)} sandboxes", remedy="write more of the id")
    return found


def _print(tracks: list[usage.Track], as_json: bool) -> None:
    if as_json:
        render.print_json(usage.as_json(tracks))
    else:
        render.print_table(HEADINGS, [_row(track) for track in tracks], drop=DROPPED)


def _stream(looks: Iterator[list[usage.Track]]) -> None:
    for tracks in looks:
        render.write(json.dumps({"time": time.time(), **usage.as_json(tracks)}) + "\n")


def _live(looks: Iterator[list[usage.Track]]) -> None:
    """One table over the other. Where the terminal can do nothing, or there is none, one below the other."""
    drawn = 0
    moves = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    for tracks in looks:
        lines = render.table_lines(HEADINGS, [_row(track) for track in tracks], DROPPED)
        if moves:
            # what has left the screen at its top cannot be drawn over
            lines = lines[: max(1, os.get_terminal_size(1).lines - 1)]
        back = f"\x1b[{drawn}A\r\x1b[J" if drawn and moves else ""
        render.write(back + "".join(f"{line}\n" for line in lines))
        drawn = len(lines)


def _row(track: usage.Track) -> Sequence[object]:
    stats, share = track.stats, track.memory_share
    return (
        track.sandbox.name or track.short, track.id, track.sandbox.state, render.percent(track.cpu_percent),
        render.size(stats.memory_bytes), render.size(stats.memory_limit_bytes),
        render.percent(None if share is None else 100 * share), render.size(stats.disk_bytes),
        stats.processes if stats.processes is None else str(stats.processes),
        f"{stats.pids if stats.pids is not None else '-'}/{stats.pids_limit}", usage.egress(stats),
    )  # fmt: skip
