"""top, stats, events, ls, inspect and logs as programs: terminals of all sizes, pipes, hostile answers."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.bad_luck import CLI
from tests.integration.terminal_program import TerminalProgram
from tests.unit.cli.drawing import HOSTILE, sandbox, stats
from tests.unit.sdk.stub_node import StubNode

ROOT = Path(__file__).parents[2]
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
#: what this program itself may send: moves, erases, colours, modes of the screen
OWN = re.compile(rb"\x1b\[[?0-9;]*[HJKmhlA]|\r|\n")
#: without surrogates, which JSON cannot carry
EVIL = HOSTILE.replace("\ud800", "")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubNode]:
    home = tmp_path / "home"
    monkeypatch.setenv("CLOCHE_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stub = StubNode(home)
    asked = iter(range(1, 100_000))

    def use(handler: Any) -> None:
        time = float(next(asked))
        used = stats(time, cpu_seconds=time / 2)
        handler.reply(200, {"time": time, "sandboxes": [{"sandbox": box, "stats": used} for box in boxes]})

    boxes = [sandbox(1, name="web"), sandbox(2, name=EVIL, labels={"a": EVIL}, reason=EVIL, state="failed")]
    stub.sandboxes = {box["id"]: box for box in boxes}
    stub.answers["GET", "/v1/stats"] = use
    health = {"status": "ok", "pid": 7, "uptime_seconds": 61.0, "engine": EVIL, "home": EVIL}
    stub.answers["GET", "/v1/health"] = (200, health)
    yield stub
    stub.close()


def cloche(*argv: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    import os

    return subprocess.run(
        [*CLI, *argv], capture_output=True, timeout=60, stdin=subprocess.DEVNULL, env={**os.environ, **environ}
    )


def is_harmless(shown: bytes) -> bool:
    text = OWN.sub(b"", shown).decode()
    return not re.search("[\x00-\x1f\x7f-\x9f\u200b\u202e\u2066]", text)


def events(*kinds: str) -> bytes:
    made = [
        {"id": f"ev_{number:026d}", "project_id": "default", "sandbox_id": sandbox(1)["id"], "at": 1e9 + number,
         "kind": kind, "data": {"reason": EVIL, "name": "web"}}
        for number, kind in enumerate(kinds)
    ]  # fmt: skip
    return b"".join(json.dumps(event).encode() + b"\n" for event in made)


@pytest.mark.parametrize(("rows", "cols"), [(24, 80), (10, 20), (50, 200), (1, 1)])
def test_top_begins_and_leaves_without_a_trace(node: StubNode, rows: int, cols: int) -> None:
    with TerminalProgram("top", "--interval", "0.2", rows=rows, cols=cols) as program:
        program.until(ENTER)
        program.until("web" if cols > 1 and rows > 1 else b"\x1b[1;1H")
        program.type("q")
        assert program.ended() == 0
        assert program.is_as_before
        assert LEAVE in program.seen
        assert program.seen.rindex(b"\x1b[?25h") > program.seen.rindex(b"\x1b[?25l")
        assert is_harmless(program.seen), program.seen


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_signals_put_the_terminal_back(node: StubNode, number: signal.Signals, status: int) -> None:
    with TerminalProgram("top") as program:
        program.until("web")
        program.send(number)
        assert program.ended() == status
        assert program.is_as_before
        assert LEAVE in program.seen


def test_top_follows_the_size_of_its_terminal(node: StubNode) -> None:
    with TerminalProgram("top", "--interval", "0.2", rows=24, cols=80) as program:
        program.until("HISTORY")
        program.resize(10, 20)
        program.until("2 boxes")
        for _ in range(100):
            program.resize(5, 30)
            program.resize(50, 200)
        program.until("EGRESS")
        program.type("\x03")
        assert program.ended() == 0
        assert b"Traceback" not in program.seen


def test_top_asks_before_it_kills(node: StubNode) -> None:
    path = f"/v1/sandboxes/{sandbox(1)['id']}/stop"
    node.answers["POST", path] = (200, node.sandboxes[sandbox(1)["id"]])
    with TerminalProgram("top", "--interval", "0.2") as program:
        program.until("web")
        program.type("n\x1b[Bk")
        program.until("kill")
        program.type("n")
        program.until("q quit")
        assert not node.asked("POST")
        program.type("\x1b[Fk")
        program.until("kill web? y/n")
        program.type("y")
        program.until("kill web: done")
        assert node.asked("POST") == [path]
        program.type("q")
        assert program.ended() == 0


def test_top_says_why_there_is_nothing_new_and_goes_on(node: StubNode) -> None:
    with TerminalProgram("top", "--interval", "0.2") as program:
        program.until("web")
        working, error = node.answers["GET", "/v1/stats"], {"code": "internal", "message": f"broken {EVIL}"}
        node.answers["GET", "/v1/stats"] = (500, {"error": error})
        program.until("broken")
        node.answers["GET", "/v1/stats"] = working
        program.until(b"\x1b[3;1H\x1b[0m\x1b[K\x1b[1mNAME")
        program.type("q")
        assert program.ended() == 0
        assert is_harmless(program.seen)


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_where_nothing_can_be_drawn_top_is_one_table(node: StubNode, environ: dict[str, str]) -> None:
    with TerminalProgram("top", **environ) as program:
        assert program.ended() == 0
        assert b"web" in program.seen
        assert b"\x1b" not in program.seen
    done = cloche("top", LANG="C")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"web" in done.stdout and b"\x1b" not in done.stdout


def test_top_as_json(node: StubNode) -> None:
    (web, _) = json.loads(cloche("top", "--json").stdout)["sandboxes"]
    assert (web["name"], web["cpu_percent"], web["memory_bytes"], web["sent_bytes"]) == ("web", 50, 64 << 20, None)


def test_stats(node: StubNode) -> None:
    done = cloche("stats")
    assert done.returncode == 0
    assert re.search(rb"web +sb_\w+ +running +50% +64M +512M +12% +4K +2 +9/256 +closed\n", done.stdout)
    assert is_harmless(done.stdout)
    (one,) = json.loads(cloche("stats", "--json", "web").stdout)["sandboxes"]
    assert one["id"] == sandbox(1)["id"]
    assert cloche("stats", "nobody").returncode != 0
    assert b"any of 2" in cloche("stats", "sb_01k0").stderr


def test_stats_go_on_until_interrupted(node: StubNode) -> None:
    with TerminalProgram("stats", "--interval", "0.1", rows=10, cols=60) as program:
        for _ in range(3):
            program.until("web")
        program.send(signal.SIGINT)
        assert program.ended() == 0
        assert is_harmless(program.seen)
    run = subprocess.Popen([*CLI, "stats", "-f", "--json", "--interval", "0.1"], stdout=subprocess.PIPE)
    assert run.stdout is not None
    found = [json.loads(run.stdout.readline()) for _ in range(3)]
    run.send_signal(signal.SIGINT)
    run.stdout.close()
    run.wait(60)
    assert [len(each["sandboxes"]) for each in found] == [2, 2, 2]


def test_events(node: StubNode) -> None:
    node.answers["GET", "/v1/events"] = (200, events("sandbox.created", "sandbox.stopped", EVIL))
    shown = cloche("events")
    assert shown.returncode == 0, shown.stderr
    assert is_harmless(shown.stdout)
    lines = shown.stdout.splitlines()
    assert len(lines) == 3
    assert re.match(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  created   sb_\w{26} web  reason=a", lines[0])
    found = [json.loads(line) for line in cloche("events", "--json").stdout.splitlines()]
    assert [each["kind"] for each in found] == ["sandbox.created", "sandbox.stopped", EVIL]
    cloche("events", "--since", "10m", "--kind", "created", "-n", "5", "--after", "ev_1", "box")
    asked = node.asked("GET")[-1]
    assert "kind=sandbox.created" in asked and "limit=5" in asked and "after=ev_1" in asked and "since=" in asked


def test_events_go_on_until_interrupted(node: StubNode) -> None:
    from tests.unit.sdk.test_node_events import Lines

    node.answers["GET", "/v1/events"] = Lines(events("sandbox.created"), events("sandbox.created", "sandbox.paused"))
    with TerminalProgram("events", "-f", cols=20) as program:
        program.until("paused")
        program.send(signal.SIGINT)
        assert program.ended() == 0
        assert is_harmless(program.seen)


@pytest.mark.parametrize("cols", [1, 20, 80, 200])
def test_ls_and_inspect_at_any_width(node: StubNode, cols: int) -> None:
    listing = (200, {"sandboxes": list(node.sandboxes.values()), "next_cursor": None})
    node.answers["GET", "/v1/sandboxes"] = listing
    for argv in (["ls"], ["inspect", sandbox(1)["id"], sandbox(2)["id"]]):
        with TerminalProgram(*argv, cols=cols) as program:
            assert program.ended() == 0
            assert b"Traceback" not in program.seen
            assert is_harmless(program.seen), program.seen
            if cols >= 20:
                assert b"web" in program.seen
    assert cloche("ls", "-q").stdout.decode().split() == list(node.sandboxes)


def test_logs_of_several_processes(node: StubNode) -> None:
    box = sandbox(1)["id"]
    for script in ("echo one; echo two", "echo three; printf four; echo bad >&2"):
        assert cloche("exec", box, "--", "sh", "-c", script).returncode == 0
    assert cloche("logs", "-n", "1", box).stdout == b"four"
    assert cloche("logs", "--stdout", "-n", "0", box).stdout == b""
    every = cloche("logs", "--all", box)
    assert every.stdout == b"one\ntwo\nthree\nfour"
    assert every.stderr.count(b"==>") == 2 and b"bad\n" in every.stderr
    followed = cloche("logs", "--all", "-f", "--stdout", box)
    assert sorted(followed.stdout.splitlines()) == [b"7 | four", b"7 | one", b"7 | three", b"7 | two"]
    assert cloche("logs", "--all", "--node").returncode != 0
