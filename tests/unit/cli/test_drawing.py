"""Tables, sparklines and `cloche top` at every width, with everything hostile in them: pure."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.cli import cells, logview, render, tables, topscene, topview, usage
from cloche.cli.sparkline import bar, sparkline
from cloche.cli.topstate import State, Wish, press, visible
from cloche.cli.usage import History
from tests.unit.cli.drawing import HOSTILE, process, sandbox, stats, use

PAINT = re.compile(r"\x1b\[[0-9;]*m")
WIDTHS = (1, 2, 5, 10, 20, 21, 40, 60, 80, 120, 200)


def bare(line: str) -> str:
    return PAINT.sub("", line)


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in bare(text))


def history(*looks: tuple[float, float]) -> History:
    """A sandbox that was looked at (time, CPU seconds) so often."""
    found = History()
    for time, seconds in looks:
        found.take(use((sandbox(1), stats(time, cpu_seconds=seconds))))
    return found


@given(st.text(), st.integers(0, 60))
def test_what_is_fitted_has_that_width(text: str, width: int) -> None:
    assert cells.width(cells.fit(render.clean(text), width)) == width
    assert cells.width(cells.cut(render.clean(text), width)) <= width


@given(st.text())
def test_what_is_cleaned_is_harmless(text: str) -> None:
    assert is_harmless(render.clean(text))
    assert not re.search(r"[\u0300-\u036f]{4}", render.clean(text))


def test_folding_loses_nothing() -> None:
    text = "one two three 漢字漢字 four"
    for width in range(2, 30):
        lines = cells.folded(text, width)
        assert all(cells.width(line) <= width for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "C"}, False),
        ({}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "de_DE.utf8"}, True),
    ],
)
def test_what_a_locale_shows(environ: dict[str, str], shown: bool) -> None:
    assert cells.shows_unicode(environ) is shown


HEADINGS = ["ID", "NAME", "STATE", "LABELS"]
ROWS = [
    ["sb_01k00000000000000000000000", "漢字", "running", "a=b,c=" + "d" * 50],
    ["sb_2", render.clean(HOSTILE), "x", "-"],
]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_fits_any_width(width: int) -> None:
    lines = tables.lines(HEADINGS, ROWS, width, ("STATE",))
    assert all(cells.width(line) <= max(2, width) for line in lines)
    assert is_harmless("".join(lines))
    assert "".join(ROWS[0][0]) in "".join(lines).replace(" ", "").replace("ID", "")


def test_a_table_without_a_width_is_whole_and_aligned() -> None:
    lines = tables.lines(HEADINGS, ROWS)
    assert len(lines) == 3
    assert {
        cells.width(line[: line.index(mark)]) for line, mark in zip(lines, ("LABELS", "a=b", " -"), strict=True)
    } <= {
        cells.width(lines[0][: lines[0].index("LABELS")]),
        cells.width(lines[2][: lines[2].index(" -")]),
    }
    assert tables.lines(["A"], []) == ["A"]


def test_columns_are_left_out_before_anything_is_folded() -> None:
    assert tables.lines(["A", "B", "C"], [["1", "2" * 10, "3"]], 8, ("B",)) == ["A  C", "1  3"]


def test_sizes() -> None:
    values = (None, 0, 999, 1000, 1536, 10 << 20, (1 << 30) - 1, 3 << 40)
    assert [render.size(value) for value in values] == ["-", "0B", "999B", "1K", "1.5K", "10M", "1G", "3T"]
    assert all(len(render.size(1.7**power)) <= 6 for power in range(60))
    assert [render.percent(value) for value in (None, 0, 0.04, 9.94, 9.96, 250)] == [
        "-",
        "0.0%",
        "0.0%",
        "9.9%",
        "10%",
        "250%",
    ]


def test_sparklines_and_bars() -> None:
    assert sparkline([0, 50, 100, 400, None, -1], 8, 100) == "  ▁▅██ ▁"
    assert sparkline([0, 100], 2, 100, ascii_only=True) == "_#"
    assert sparkline([1, 2], 0, 1) == sparkline([], 0, 1) == ""
    assert [bar(share, 4) for share in (None, 0, 0.5, 1, 7)] == ["    ", "    ", "██  ", "████", "████"]
    assert bar(0.5, 4, ascii_only=True) == "##.."


def test_cpu_is_the_difference_of_two_looks() -> None:
    track = history((10, 1.0), (12, 2.0)).tracks[sandbox(1)["id"]]
    assert track.cpu_percent == 50
    assert list(track.cpu) == [50]


def test_cpu_is_unknown_after_a_start_and_kept_between_looks_that_are_too_close() -> None:
    (track,) = history((10, 5.0), (12, 0.5)).tracks.values()
    assert track.cpu_percent is None
    (track,) = history((10, 1.0), (12, 2.0), (12.01, 2.01)).tracks.values()
    assert (track.cpu_percent, len(track.cpu)) == (50, 1)
    (track,) = history((10, 1.0), (5, 2.0)).tracks.values()
    assert track.cpu_percent is None


def test_what_is_gone_is_forgotten_and_history_is_bounded() -> None:
    found = history(*((number, number / 2) for number in range(300)))
    assert len(found.tracks[sandbox(1)["id"]].cpu) == usage.KEPT
    assert found.take(use()) == []


def test_short_ids_tell_them_apart() -> None:
    ids = [f"sb_01k0aaaaaaaaaaaaaa{letter}zzzzzzzz" for letter in "abc"]
    short = usage.short_ids(ids)
    assert len(set(short.values())) == 3
    assert {len(each) for each in short.values()} == {len("sb_01k0aaaaaaaaaaaaaa") + 1}
    assert usage.short_ids([]) == {}


def scene(state: State | None = None, *, ascii_only: bool = False, trouble: str = "") -> topscene.Scene:
    found = History()
    boxes = [
        (sandbox(1, name="web"), stats()),
        (sandbox(2, name=None, state="paused"), stats(cpu_seconds=None, memory_bytes=None, processes=None)),
        (sandbox(3, name=HOSTILE, state="stopping", engine=HOSTILE), stats(memory_bytes=511 << 20)),
    ]
    for time in (10.0, 11.0, 12.0):
        tracks = found.take(use(*((box, {**used, "time": time, "cpu_seconds": time / 2}) for box, used in boxes)))
    processes = [process(12, "sh", "-c", HOSTILE), process(7, "true", state="exited", exit_code=3, user=HOSTILE)]
    return topscene.Scene(state or State(), tracks, processes, about="node 1", trouble=trouble, now=2000.0,
                         ascii_only=ascii_only)  # fmt: skip


STATES = [
    State(),
    State(selected=sandbox(3)["id"]),
    State(detail=sandbox(3)["id"], process=f"p_{12:026d}"),
    State(detail="sb_gone"),
    State(typing=True, filter=HOSTILE),
    State(filter="nothing like it"),
    State(wish=Wish("kill", sandbox(3)["id"], HOSTILE)),
    State(message=HOSTILE, sort="name", reverse=True),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("rows", [1, 2, 4, 10, 24, 60])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_frame_fits_any_screen_and_is_harmless(state: State, columns: int, rows: int, ascii_only: bool) -> None:
    lines = topview.frame(scene(state, ascii_only=ascii_only, trouble=HOSTILE), columns, rows)
    assert len(lines) <= rows
    for line in lines:
        assert cells.width(bare(line)) <= columns, line
        assert is_harmless(line)


def test_at_20_columns_the_name_its_cpu_and_its_memory_are_left() -> None:
    lines = [bare(line).rstrip() for line in topview.frame(scene(State(sort="name")), 20, 10)]
    assert lines[0] == "3 boxes 150% 575M"
    assert lines[1].split() == ["NAME▼", "CPU", "MEM"]
    assert lines[3].startswith("…"), "ids are told apart by their ends"
    assert lines[4].split() == ["web", "50%", "64M"]
    assert lines[9].startswith("q quit")


def test_ascii_screens_are_ascii() -> None:
    shown = scene(State(sort="name", filter="box"), ascii_only=True)
    named = topscene.Scene(shown.state, [t for t in shown.tracks if t.label.isascii()], ascii_only=True, now=2000.0)
    assert "".join(topview.frame(named, 80, 24)).isascii()


def test_a_long_list_scrolls_with_the_selection() -> None:
    found = History()
    tracks = found.take(use(*((sandbox(number), stats()) for number in range(100))))
    state = State(sort="name")
    order = visible(state, tracks)
    state.selected = order[57].id
    lines = topview.frame(topscene.Scene(state, tracks), 80, 24)
    assert any(order[57].label in line and "\x1b[7m" in line for line in lines)


def test_a_frame_of_many_is_quickly_made_of_those_that_are_shown() -> None:
    tracks = History().take(use(*((sandbox(number), stats()) for number in range(1000))))
    assert len(topview.frame(topscene.Scene(State(), tracks), 200, 50)) == 50


def keys(state: State, *pressed: str) -> State:
    shown = scene(state)
    for key in pressed:
        press(state, key, visible(state, shown.tracks), shown.processes)
    return state


def test_sorting() -> None:
    shown = scene()
    order = {key: [track.sandbox.id[-1] for track in visible(keys(State(), key), shown.tracks)] for key in "cmdpan"}
    assert order["m"] == ["3", "1", "2"]
    assert order["a"] == ["1", "2", "3"]
    assert [track.sandbox.id[-1] for track in visible(keys(State(), "a", "r"), shown.tracks)] == ["3", "2", "1"]


def test_filtering() -> None:
    state = keys(State(), "/", "w", "x", "backspace", "e", "enter")
    assert (state.filter, state.typing) == ("we", False)
    assert [track.sandbox.name for track in visible(state, scene().tracks)] == ["web"]
    assert keys(state, "/", "q").over is False
    assert keys(state, "escape").filter == ""
    assert len(keys(State(typing=True), *"x" * 500).filter) == 40


def test_enter_selects_before_it_opens() -> None:
    state = keys(State(sort="age"), "enter")
    assert (state.selected, state.detail) == (sandbox(1)["id"], None)
    assert keys(state, "enter").detail == sandbox(1)["id"]


def test_selecting_and_looking_inside() -> None:
    state = keys(State(sort="age"), "down", "down", "down", "down", "down")
    assert state.selected == sandbox(3)["id"]
    assert keys(state, "home").selected == sandbox(1)["id"]
    assert keys(state, "enter").detail == sandbox(1)["id"]
    assert keys(state, "down", "k").wish == Wish("kill", sandbox(1)["id"], "web", f"p_{12:026d}")
    assert keys(state, "n", "down", "k").wish is None, "what has ended is not killed"
    assert keys(state, "escape").detail is None


def test_nothing_is_done_without_a_yes() -> None:
    state = keys(State(sort="age"), "k", "s")
    assert (state.wish, state.agreed) == (None, None), "nothing is selected"
    for answer in ("n", "enter", "escape", "q", "k", "s"):
        state = keys(State(sort="age"), "down", "k", answer)
        assert (state.wish, state.agreed, state.over) == (None, None, False)
    assert keys(State(sort="age"), "down", "s", "y").agreed == Wish("stop", sandbox(1)["id"], "web")
    assert keys(State(sort="age"), "down", "s", "ctrl-c").over


def test_leaving() -> None:
    assert all(keys(State(), key).over for key in ("q", "ctrl-c", "ctrl-d"))


def test_the_plain_table() -> None:
    headings, rows = topview.plain(scene())
    assert {len(row) for row in rows} == {len(headings)}
    assert [row[-1] for row in rows] == ["closed"] * 3


def test_a_shell_is_not_the_script_that_starts_it() -> None:
    started = process(1, "/bin/sh", "-c", "exec bash -l", tag=render.SHELL_TAG)
    assert render.command_of(started, 100) == "shell"
    assert logview.heading(started).endswith(" running: shell")
    assert render.command_of(process(2, "echo", "\x1b[1m"), 100) == "echo \\x1b[1m"
