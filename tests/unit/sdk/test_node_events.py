"""Events of a whole node, over streams that break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cloche import AsyncNode, Event, Node, NodeUnreachableError, Sandbox
from tests.unit.sdk.stub_node import StubNode


def line(number: int, kind: str = "sandbox.paused") -> bytes:
    event = {"id": f"ev_{number}", "project_id": "default", "sandbox_id": "sb_1", "at": 1.0, "kind": kind, "new": 1}
    return json.dumps(event).encode() + b"\n"


class Lines:
    """Answers of GET /v1/events, one after the other; the connection breaks after each unless it is the last."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    def __call__(self, handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.chunk(self.answers.pop(0) if self.answers else b"")
        handler.close_connection = True
        if handler.query.get("follow") != "1":
            handler.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StubNode]:
    stub = StubNode(tmp_path / "home")
    yield stub
    stub.close()


def serve(node: StubNode, *answers: bytes) -> None:
    node.answers["GET", "/v1/events"] = Lines(*answers)


def test_history(node: StubNode, tmp_path: Path) -> None:
    serve(node, line(1) + b'{"keepalive":true}\n' + line(2))
    found = list(Node(tmp_path / "home").events(kinds=["a", "b"], sandbox="box", limit=5, since=3.5))
    assert [event.id for event in found] == ["ev_1", "ev_2"]
    assert isinstance(found[0], Event)
    (asked,) = [path for path in node.asked("GET") if path.startswith("/v1/events")]
    assert asked == "/v1/events?sandbox=box&kind=a&kind=b&since=3.5&limit=5&follow=0"


def test_a_follower_goes_on_behind_the_last_that_it_has_seen(node: StubNode, tmp_path: Path) -> None:
    half = line(4)
    serve(node, line(1) + line(2), b'{"keepalive":true}\n' + line(3) + half[:10], half)
    found = list(islice(Node(tmp_path / "home").events(follow=True, limit=9), 4))
    assert [event.id for event in found] == ["ev_1", "ev_2", "ev_3", "ev_4"]
    asked = [path.partition("?")[2] for path in node.asked("GET") if path.startswith("/v1/events")]
    assert asked == ["limit=9&follow=1", "after=ev_2&follow=1", "after=ev_3&follow=1"]


def test_from_now_on_means_from_the_newest_on(node: StubNode, tmp_path: Path) -> None:
    serve(node, line(7), b"", line(8))
    assert next(Node(tmp_path / "home").events(follow=True, limit=0)).id == "ev_8"
    asked = [path.partition("?")[2] for path in node.asked("GET") if path.startswith("/v1/events")]
    assert asked == ["limit=1", "after=ev_7&follow=1", "after=ev_7&follow=1"]


def test_a_stream_that_only_breaks_is_an_error_at_last(
    node: StubNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloche.sdk._sync.bridge.sleep", lambda seconds: None)
    serve(node)
    with pytest.raises(NodeUnreachableError):
        list(Node(tmp_path / "home").events(follow=True))


def test_those_of_one_sandbox_end_with_it(node: StubNode, tmp_path: Path) -> None:
    box = Sandbox.create(home=str(tmp_path / "home"))
    serve(node, line(1) + line(2, "sandbox.removed") + line(3))
    assert [event.id for event in box.events(follow=True)] == ["ev_1", "ev_2"]


def test_both_halves(node: StubNode, tmp_path: Path) -> None:
    async def read() -> list[str]:
        return [event.id async for event in AsyncNode(tmp_path / "home").events()]

    serve(node, line(1))
    assert asyncio.run(read()) == ["ev_1"]


def test_stats(node: StubNode, tmp_path: Path) -> None:
    Sandbox.create(home=str(tmp_path / "home"))
    (box,) = node.sandboxes.values()
    use = {"sandbox": {**box, "newer": 1}, "stats": {"time": 1.0, "cpu_seconds": 0.5, "newer": 2}}
    node.answers["GET", "/v1/stats"] = (200, {"time": 2.0, "sandboxes": [use]})
    found = Node(tmp_path / "home").stats()
    assert (found.time, found.sandboxes[0].sandbox.id, found.sandboxes[0].stats.cpu_seconds) == (2.0, box["id"], 0.5)
