"""Settings, idleness, the log and the environment of a node."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from cloche.model.errors import InvalidError
from cloche.model.place import home_from
from cloche.noderun import log as node_log
from cloche.noderun.idle import Idleness
from cloche.noderun.settings import read_settings
from cloche.sdk.launch import node_environment


def test_settings_come_from_the_environment_and_the_command_line() -> None:
    environ = {"CLOCHE_HOME": "/a", "CLOCHE_NODE_IDLE_SECONDS": "7", "CLOCHE_ENGINE": "fake",
               "CLOCHE_LOG_LEVEL": "DEBUG", "CLOCHE_NODE_SLOW_CALLBACK_SECONDS": "0.5"}  # fmt: skip
    settings = read_settings([], environ)
    assert (settings.home, settings.idle_seconds, settings.engine) == ("/a", 7.0, "fake")
    assert (settings.log_level, settings.slow_callback_seconds) == ("debug", 0.5)
    settings = read_settings(["--home", "/b", "--idle-seconds", "0"], environ)
    assert (settings.home, settings.idle_seconds) == ("/b", 0.0)
    assert read_settings([], {"HOME": "/h"}).home == "/h/.local/share/cloche"
    assert read_settings([], {"HOME": "/h"}).idle_seconds == 300.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("CLOCHE_NODE_IDLE_SECONDS", "soon"), ("CLOCHE_NODE_IDLE_SECONDS", "-1"), ("CLOCHE_NODE_IDLE_SECONDS", "inf"),
     ("CLOCHE_NODE_IDLE_SECONDS", "nan"), ("CLOCHE_LOG_LEVEL", "loud")],
)  # fmt: skip
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidError) as refused:
        read_settings([], {name: value, "HOME": "/h"})
    assert refused.value.details == {"field": name}


def test_where_the_data_directory_is() -> None:
    assert home_from({"CLOCHE_HOME": "/x", "XDG_DATA_HOME": "/y"}, "/h") == "/x"
    assert home_from({"XDG_DATA_HOME": "/y"}, "/h") == "/y/cloche"
    assert home_from({"XDG_DATA_HOME": "relative"}, "/h") == "/h/.local/share/cloche"


def test_the_node_sees_little_of_the_clients_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    kept = node_environment({
        "PATH": "/bin", "HOME": "/h", "CLOCHE_HOME": "/x", "XDG_RUNTIME_DIR": "/r", "AWS_SECRET_ACCESS_KEY": "s",
        "PYTHONPATH": "lib:/abs", "PYTHONSTARTUP": "/evil", "LD_PRELOAD": "/evil", "SSH_AUTH_SOCK": "/s"})  # fmt: skip
    assert {name for name in kept if not name.startswith("PYTHON")} == {
        "PATH",
        "HOME",
        "CLOCHE_HOME",
        "XDG_RUNTIME_DIR",
    }
    assert kept["PYTHONPATH"].split(":")[-2:] == [f"{tmp_path}/lib", "/abs"]
    assert "PYTHONSTARTUP" not in kept


def run(scene: object) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scene  # type: ignore[misc]

    asyncio.run(bounded())


def test_a_quiet_node_becomes_idle() -> None:
    run(Idleness(0.01, lambda: 0).until_idle())


def test_work_and_living_sandboxes_keep_a_node() -> None:
    async def scene() -> None:
        asked: list[int] = []
        enough = asyncio.Event()

        def living() -> int:
            asked.append(1)
            if len(asked) == 3:
                enough.set()
            return 0 if len(asked) > 3 else 1

        idleness = Idleness(0.005, living)
        idleness.began()
        waiting = asyncio.ensure_future(idleness.until_idle())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert not asked, "nobody asks while a request runs"
        idleness.ended()
        await enough.wait()
        await waiting

    run(scene())


def test_never_idle() -> None:
    async def scene() -> None:
        idleness = Idleness(0, lambda: 0)
        waiting = asyncio.ensure_future(idleness.until_idle())
        idleness.began()
        idleness.ended()
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        waiting.cancel()

    run(scene())


@pytest.fixture
def logged(tmp_path: Path):
    root = logging.getLogger()
    before, level = root.handlers, root.level
    handler = node_log.start_log(str(tmp_path), "info", owns_stderr=False)
    yield tmp_path, handler
    node_log.stop_log(handler)
    root.handlers, root.level = before, level


def test_log_lines_are_json(logged) -> None:
    home, _ = logged
    log = logging.getLogger("cloche.test")
    log.info("something", extra={"fields": {"count": 2}})
    log.debug("not at this level")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.exception("crashed")
    lines = [json.loads(line) for line in node_log.tail(str(home), 10)]
    assert [line["event"] for line in lines] == ["something", "crashed"]
    assert lines[0]["fields"] == {"count": 2}
    assert lines[0]["level"] == "info"
    assert "boom" in lines[1]["traceback"]


def test_the_log_is_rotated_and_read_across_files(logged, monkeypatch: pytest.MonkeyPatch) -> None:
    home, handler = logged
    handler.maxBytes = 10_000
    log = logging.getLogger("cloche.test")
    for number in range(400):
        log.info("line", extra={"fields": {"number": number, "pad": "x" * 40}})
    files = sorted(path.name for path in home.glob("node.log*"))
    assert files == ["node.log", "node.log.1", "node.log.2"]
    assert all((home / name).stat().st_size <= 10_000 for name in files)
    numbers = [json.loads(line)["fields"]["number"] for line in node_log.tail(str(home), 100)]
    assert numbers == list(range(300, 400))
    assert (home / "node.log").stat().st_mode & 0o777 == 0o600


def test_a_dying_interpreters_words_are_wrapped(logged) -> None:
    home, _ = logged
    with (home / "node.log").open("a") as file:
        file.write("Fatal Python error: …\n")
    [line] = node_log.tail(str(home), 1)
    assert json.loads(line)["fields"]["text"].startswith("Fatal Python error")


def test_followers_get_new_lines(logged) -> None:
    _, handler = logged

    async def scene() -> None:
        log = logging.getLogger("cloche.test")
        log.info("before")
        lines = handler.lines(1, follow=True)
        assert json.loads(await anext(lines))["event"] == "before"
        log.info("after")
        assert json.loads(await anext(lines))["event"] == "after"
        await lines.aclose()

    run(scene())
