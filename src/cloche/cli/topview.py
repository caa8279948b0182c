"""What `cloche top` looks like: from what is known to lines for a screen of a given size. Pure.

Every text that comes from a sandbox is made harmless before it is measured; colours are put on last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloche.cli import cells, render, topdetail, usage
from cloche.cli.sparkline import bar, sparkline
from cloche.cli.topscene import BOLD, CYAN, DIM, GREEN, RED, REVERSE, YELLOW, Scene, first_shown, paint
from cloche.cli.topstate import SORTS, visible
from cloche.cli.usage import Track

MAX_NAME, MAX_SPARK, MAX_BAR = 40, 40, 20
_STATE_COLOURS = {"running": GREEN, "paused": YELLOW, "creating": CYAN, "stopping": CYAN, "failed": RED}


@dataclass(frozen=True, slots=True)
class Column:
    """`importance` 0 is always there. `most`: how far it grows when there is room. `show` → text and colour."""

    heading: str
    width: int
    importance: int
    show: Callable[[Scene, Track, int], tuple[str, str]]
    right: bool = True
    most: int = 0
    sort: str = ""


def frame(scene: Scene, columns: int, rows: int) -> list[str]:
    """Lines for a screen, none of them wider than it."""
    columns, rows = max(1, columns), max(1, rows)
    head, foot = _head(scene, columns, rows), _foot(scene, columns)
    room = max(0, rows - len(head) - len(foot))
    body = topdetail.lines_of(scene, columns, room) if scene.state.detail else _table(scene, columns, room)
    body += [""] * (room - len(body))
    return [*head, *body[:room], *foot][:rows]


def plain(scene: Scene) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Headings and rows of the same table for where nothing can be drawn."""
    headings = ("NAME", "ID", "STATE", "AGE", "CPU", "MEM", "LIMIT", "DISK", "PROCS", "EGRESS")
    rows: list[Sequence[object]] = [
        (track.sandbox.name, track.id, track.sandbox.state, _age(scene, track), render.percent(track.cpu_percent),
         render.size(track.stats.memory_bytes), render.size(track.stats.memory_limit_bytes),
         render.size(track.stats.disk_bytes), _count(track.stats.processes), usage.egress(track.stats))
        for track in visible(scene.state, scene.tracks)
    ]  # fmt: skip
    return headings, rows


def _head(scene: Scene, columns: int, rows: int) -> list[str]:
    lines = [paint(cells.fit(_totals(scene, columns), columns, mark=scene.mark), BOLD)]
    if rows >= 8 and columns >= 40:
        lines.append(paint(cells.cut(scene.about, columns, scene.mark), DIM))
    if scene.trouble and rows >= 5:
        lines.append(paint(cells.cut(render.clean(scene.trouble), columns, scene.mark), RED))
    return lines


def _totals(scene: Scene, columns: int) -> str:
    tracks = scene.tracks
    counts = {state: sum(track.sandbox.state == state for track in tracks) for state in ("running", "paused")}
    cpu = sum(track.cpu_percent or 0.0 for track in tracks)
    memory = sum(track.stats.memory_bytes or 0 for track in tracks)
    if columns < 50:
        return f"{len(tracks)} boxes {render.percent(cpu)} {render.size(memory)}"
    disk = sum(track.stats.disk_bytes or 0 for track in tracks)
    processes = sum(track.stats.processes or 0 for track in tracks)
    paused = f", {counts['paused']} paused" if counts["paused"] else ""
    return (
        f"cloche top  {counts['running']} running{paused}  cpu {render.percent(cpu)}  memory {render.size(memory)}"
        f"  disk {render.size(disk)}  {processes} processes"
    )


def _foot(scene: Scene, columns: int) -> list[str]:
    state = scene.state
    if state.wish is not None:
        return [paint(cells.fit(render.clean(state.wish.question), columns, mark=scene.mark), f"{BOLD};{REVERSE}")]
    if state.typing:
        return [paint(cells.fit(f"/{render.clean(state.filter)}_", columns, mark=scene.mark), BOLD)]
    if state.message:
        return [paint(cells.cut(render.clean(state.message), columns, scene.mark), YELLOW)]
    arrows, enter = ("up/down", "enter") if scene.ascii_only else ("↑↓", "⏎")
    if state.detail:
        keys = f"q quit  esc back  {arrows} select  k kill"
    else:
        chosen = "  s stop  k kill" if state.selected else ""
        keys = f"q quit  {arrows} select  {enter} processes{chosen}  / filter  c m d p a n sort  r reverse"
    shown = f"filter /{render.clean(state.filter)}  " if state.filter else ""
    return [paint(cells.cut(shown + keys, columns, ""), DIM)]


def _table(scene: Scene, columns: int, room: int) -> list[str]:
    tracks = visible(scene.state, scene.tracks)
    chosen = _fitting(scene, tracks, columns)
    lines = [_heading(scene, chosen)]
    shown = _window(tracks, [track.id for track in tracks], scene.state.selected, room - 1)
    lines += [_line(scene, track, chosen, track.id == scene.state.selected, columns) for track in shown]
    if not tracks:
        why = "nothing matches" if scene.state.filter else "no sandboxes: cloche create" if not scene.trouble else ""
        lines.append(cells.cut(why, columns, scene.mark))
    return lines


def _window(items: Sequence[Track], ids: Sequence[str], selected: str | None, room: int) -> Sequence[Track]:
    first = first_shown(ids, selected, room)
    return items[first : first + max(0, room)]


def _fitting(scene: Scene, tracks: Sequence[Track], columns: int) -> list[tuple[Column, int]]:
    """The most important columns that fit, with their widths."""
    chosen = [column for column in COLUMNS if column.importance == 0]
    for column in sorted(COLUMNS, key=lambda column: column.importance):
        if column.importance and sum(each.width + 1 for each in [*chosen, column]) - 1 <= columns:
            chosen.append(column)
    widths = {column.heading: column.width for column in chosen}
    spare = columns - sum(width + 1 for width in widths.values()) + 1
    longest = max((cells.width(track.label) for track in tracks), default=0)
    for column in chosen:
        most = min(column.most, max(longest, column.width)) if column.heading == "NAME" else column.most
        growth = max(0, min(spare, most - column.width))
        widths[column.heading] += growth
        spare -= growth
    if spare < 0:
        # narrower than even the most important ones
        name = COLUMNS[0]
        if widths[name.heading] + spare < 1:
            return [(name, columns)]
        widths[name.heading] += spare
    return [(column, widths[column.heading]) for column in COLUMNS if column in chosen]


def _heading(scene: Scene, chosen: Sequence[tuple[Column, int]]) -> str:
    arrow = ("^" if scene.state.reverse else "v") if scene.ascii_only else "▲" if scene.state.reverse else "▼"
    found = []
    for column, width in chosen:
        text = column.heading
        if column.sort == scene.state.sort and len(text) < width:
            text = arrow + text if column.right else text + arrow
        found.append(cells.fit(text, width, right=column.right, mark=""))
    return paint(" ".join(found), f"{BOLD};{DIM}" if scene.trouble else BOLD)


def _line(scene: Scene, track: Track, chosen: Sequence[tuple[Column, int]], selected: bool, columns: int) -> str:
    shown = []
    for column, width in chosen:
        text, colour = column.show(scene, track, width)
        fitted = cells.fit(text, width, right=column.right, mark=scene.mark)
        shown.append(fitted if selected else paint(fitted, colour))
    line = " ".join(shown)
    return paint(cells.fit(line, columns, mark=""), REVERSE) if selected else line


def _age(scene: Scene, track: Track) -> str:
    return render.span(scene.now - track.sandbox.created_at)


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _name(scene: Scene, track: Track, width: int) -> tuple[str, str]:
    if track.sandbox.name:
        return track.label, ""
    # the beginning of an id is a time: what tells it from others stands behind that
    shown = track.label
    return (shown if len(shown) <= width else scene.mark + shown[len(shown) - width + 1 :]), DIM


def _state(scene: Scene, track: Track, width: int) -> tuple[str, str]:
    return render.clean(track.sandbox.state), _STATE_COLOURS.get(track.sandbox.state, "")


def _heat(share: float | None) -> str:
    return "" if share is None or share < 0.6 else YELLOW if share < 0.9 else RED


def _cpu(scene: Scene, track: Track, width: int) -> tuple[str, str]:
    percent = track.cpu_percent
    share = None if percent is None else percent / (100 * track.sandbox.limits.cpus)
    return render.percent(percent), _heat(share)


def _cpu_line(scene: Scene, track: Track, width: int) -> tuple[str, str]:
    return sparkline(list(track.cpu), width, 100 * track.sandbox.limits.cpus, ascii_only=scene.ascii_only), GREEN


def _memory(scene: Scene, track: Track, width: int) -> tuple[str, str]:
    return render.size(track.stats.memory_bytes), _heat(track.memory_share)


def _memory_bar(scene: Scene, track: Track, width: int) -> tuple[str, str]:
    limit = render.size(track.stats.memory_limit_bytes)
    text = bar(track.memory_share, width - 6, ascii_only=scene.ascii_only) + cells.fit(limit, 6, right=True)
    return text, _heat(track.memory_share) or CYAN


COLUMNS = (
    Column("NAME", 8, 0, _name, right=False, most=MAX_NAME, sort="name"),
    Column("STATE", 8, 3, _state, right=False),
    Column("AGE", 4, 6, lambda scene, track, width: (_age(scene, track), ""), sort="age"),
    Column("CPU", 5, 0, _cpu, sort="cpu"),
    Column("HISTORY", 10, 4, _cpu_line, right=False, most=MAX_SPARK),
    Column("MEM", 5, 1, _memory, sort="memory"),
    Column("OF", 13, 8, _memory_bar, right=False, most=MAX_BAR),
    Column("DISK", 5, 7, lambda scene, track, width: (render.size(track.stats.disk_bytes), ""), sort="disk"),
    Column("PROC", 5, 5, lambda scene, track, width: (_count(track.stats.processes), ""), sort="processes"),
    Column("EGRESS", 9, 9, lambda scene, track, width: (usage.egress(track.stats), DIM)),
)
assert {column.sort for column in COLUMNS} - {""} == set(SORTS.values())
