"""One execution in the node in miniature: its events are given, and its streams break where they are told to."""

from __future__ import annotations

from typing import Any

from cloche.guest_api.events import encode
from cloche.model.code import Accepted, CodeEnded, CodeEvent, Started
from tests.unit.sdk.stub_node import StubNode

CONTEXT, EXECUTION = "c_" + "0" * 26, "x_" + "0" * 26


class StubExecution:
    """`events`: what comes between Started and Ended. `cuts`: after how many bytes each stream in turn breaks."""

    def __init__(self, node: StubNode, box: str, *events: Any, cuts: tuple[int, ...] = (), status: str = "ok") -> None:
        accepted = Accepted(seq=1, execution_id=EXECUTION, context_id=CONTEXT, language="python")
        numbered = [type(event)(**{**_fields(event), "seq": number}) for number, event in enumerate(events, 3)]
        ended = CodeEnded(seq=len(events) + 3, status=status, wall_seconds=0.5)  # type: ignore[arg-type]
        self.events: list[CodeEvent] = [accepted, Started(seq=2, number=7, at=1.0), *numbered, ended]
        self.cuts = list(cuts)
        self.bodies: list[bytes] = []
        self.node = node
        path = f"/v1/sandboxes/{box}/executions"
        self.interrupt_path = f"{path}/{EXECUTION}/interrupt"
        node.answers["POST", path] = self.start
        node.answers["GET", f"{path}/{EXECUTION}"] = self.go_on
        node.answers["POST", self.interrupt_path] = (204, b"")

    @property
    def interrupted(self) -> int:
        return self.node.asked("POST").count(self.interrupt_path)

    def start(self, handler: Any) -> None:
        self.bodies.append(handler.body)
        self.stream(handler, 0)

    def go_on(self, handler: Any) -> None:
        self.stream(handler, int(handler.query["after"]))

    def stream(self, handler: Any, after: int) -> None:
        handler.send_response(200)
        handler.send_header("Cloche-Api-Version", "1")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        data = b"".join(encode(event) for event in self.events if event.seq > after)  # type: ignore[union-attr]
        if self.cuts:
            handler.chunk(data[: self.cuts.pop(0)])
            handler.close_connection = True
            return
        handler.chunk(data)
        handler.wfile.write(b"0\r\n\r\n")


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}
