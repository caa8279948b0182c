"""One sandbox in `cloche top`: its use over time and its processes. Pure."""

from __future__ import annotations

from cloche.cli import cells, render
from cloche.cli.sparkline import sparkline
from cloche.cli.topscene import BOLD, CYAN, DIM, GREEN, REVERSE, Scene, first_shown, paint
from cloche.cli.usage import Track
from cloche.model.process import ProcessInfo

MAX_ARGV = 2000


def lines_of(scene: Scene, columns: int, room: int) -> list[str]:
    """At most `columns` wide; as many as there are."""
    track = next((track for track in scene.tracks if track.id == scene.state.detail), None)
    if track is None:
        return [cells.cut("it is gone: esc goes back", columns, scene.mark)]
    about = f"{track.label}  {track.id}  {track.sandbox.state}  {_image(track)}"
    lines = [paint(cells.cut(about, columns, scene.mark), CYAN), *_graphs(scene, track, columns, room)]
    lines.append(paint(cells.cut(_process_line(columns, "PID", "STATE", "AGE", "USER", "COMMAND"), columns, ""), BOLD))
    ids = [process.id for process in scene.processes]
    left = room - len(lines)
    first = first_shown(ids, scene.state.process, left)
    for process in scene.processes[first : first + max(0, left)]:
        line = cells.cut(_described(scene, process, columns), columns, scene.mark)
        chosen = process.id == scene.state.process
        colour = REVERSE if chosen else "" if process.state == "running" else DIM
        lines.append(paint(cells.fit(line, columns) if chosen else line, colour))
    if not scene.processes:
        frozen = track.sandbox.state != "running"
        why = f"its processes cannot be listed while it is {track.sandbox.state}" if frozen else "no process runs in it"
        lines.append(cells.cut(render.clean(why), columns, scene.mark))
    return lines


def _graphs(scene: Scene, track: Track, columns: int, room: int) -> list[str]:
    if room < 8 or columns < 30:
        return []
    stats, length = track.stats, columns - 24
    limit = float(stats.memory_limit_bytes or 0) or max((each or 0.0 for each in track.memory), default=0.0)
    cpu = sparkline(list(track.cpu), length, 100 * track.sandbox.limits.cpus, ascii_only=scene.ascii_only)
    memory = sparkline(list(track.memory), length, limit, ascii_only=scene.ascii_only)
    used = f"{render.size(stats.memory_bytes)}/{render.size(stats.memory_limit_bytes)}"
    return [
        f"cpu    {cells.fit(render.percent(track.cpu_percent), 14)}{paint(cpu, GREEN)}",
        f"memory {cells.fit(used, 14)}{paint(memory, CYAN)}",
    ]


def _described(scene: Scene, process: ProcessInfo, columns: int) -> str:
    ended = process.state != "running"
    state = f"exit {process.exit_code}" if ended and process.exit_code is not None else process.state
    command = render.command_of(process, MAX_ARGV)
    age = render.span(scene.now - process.started_at)
    return _process_line(columns, str(process.pid), render.clean(state), age, render.clean(process.user), command)


def _process_line(columns: int, pid: str, state: str, age: str, user: str, command: str) -> str:
    if columns < 50:
        return f"{cells.fit(pid, 4, right=True)} {command}"
    return " ".join([
        cells.fit(pid, 6, right=True), cells.fit(state, 9), cells.fit(age, 4, right=True), cells.fit(user, 8), command
    ])  # fmt: skip


def _image(track: Track) -> str:
    return render.clean(f"{track.sandbox.spec.image[:100]} on {track.sandbox.engine[:100]}")
