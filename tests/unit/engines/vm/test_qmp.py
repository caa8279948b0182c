"""QMP against a server that says what it likes: QEMU may have been taken over."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloche.engines.vm import qmp
from cloche.engines.vm.qmp import Qmp
from cloche.model.errors import EngineError

pytestmark = pytest.mark.anyio
Answer = Callable[[dict[str, Any]], bytes]
GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


def returns(value: object) -> bytes:
    return json.dumps({"return": value}).encode() + b"\r\n"


@asynccontextmanager
async def serving(path: Path, answer: Answer, greeting: bytes = GREETING) -> AsyncIterator[None]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while not reader.at_eof():
            data = await reader.read(65536)
            if not data:
                break
            asked = json.loads(data)
            writer.write(returns({}) if asked["execute"] == "qmp_capabilities" else answer(asked))
        writer.close()

    server = await asyncio.start_unix_server(talk, path)
    async with server:
        yield


async def test_commands_and_their_arguments(tmp_path: Path) -> None:
    async with serving(tmp_path / "q", lambda asked: returns(asked)), await Qmp.connect(tmp_path / "q") as asked:
        said = await asked.execute("add-fd", fdset_id=9)
    assert said == {"execute": "add-fd", "arguments": {"fdset-id": 9}}


async def test_events_on_the_way_are_kept_and_waited_for(tmp_path: Path) -> None:
    events = b'{"event": "STOP"}\r\n{"event": "RESUME"}\r\n'
    async with serving(tmp_path / "q", lambda _: events + returns(1)), await Qmp.connect(tmp_path / "q") as asked:
        assert await asked.execute("cont") == 1
        await asked.event("RESUME", 5)
        assert asked.events == ["STOP", "RESUME"]
        with pytest.raises(EngineError, match="gave up"):
            await asked.event("SHUTDOWN", 0.01)


async def test_a_refusal_is_told_in_qemus_words(tmp_path: Path) -> None:
    refusal = b'{"error": {"class": "GenericError", "desc": "no such disk"}}\r\n'
    async with serving(tmp_path / "q", lambda _: refusal), await Qmp.connect(tmp_path / "q") as asked:
        with pytest.raises(EngineError, match="refused stop: no such disk"):
            await asked.execute("stop")


@pytest.mark.parametrize(
    "said",
    [b"hello\r\n", b"[]\r\n", b'{"error": 3}\r\n', b"\xff\xfe\r\n", b"x" * (qmp.MAX_LINE_BYTES + 2)],
    ids=["no JSON", "a list", "no error", "no text", "too long"],
)
async def test_whatever_else_it_says_is_an_error(tmp_path: Path, said: bytes) -> None:
    async with serving(tmp_path / "q", lambda _: said), await Qmp.connect(tmp_path / "q") as asked:
        with pytest.raises(EngineError):
            await asked.execute("query-status")


async def test_a_flood_of_events_is_not_kept(tmp_path: Path) -> None:
    flood = b"".join(b'{"event": "E%d"}\r\n' % number for number in range(5000))
    async with serving(tmp_path / "q", lambda _: flood + returns({})), await Qmp.connect(tmp_path / "q") as asked:
        await asked.execute("query-status")
        assert len(asked.events) <= qmp.MAX_EVENTS and asked.events[-1] == "E4999"


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        await Qmp.connect(tmp_path / "q")


async def test_somebody_who_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.05)
    async with serving(tmp_path / "q", lambda _: b"", greeting=b""):
        with pytest.raises(EngineError, match="says nothing"):
            await Qmp.connect(tmp_path / "q")
