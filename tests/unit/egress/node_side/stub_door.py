"""A door process that carries nothing and says what it was told: `stub_door.py --control-fd N`.

Each message it gets is a line in HOME/told.jsonl, with the values of secrets as they came."""

from __future__ import annotations

import array
import json
import os
import socket
import sys
from pathlib import Path

from cloche.egress import messages
from cloche.egress.messages import Attach, Counted, Detach, Happened, Publish, Ready, Reply, Setup, Stream, StreamReply
from cloche.model.egress import EgressCounters


class Stub:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._home = ""

    def run(self) -> None:
        while True:
            data, ancillary, _, _ = self._sock.recvmsg(messages.MAX_MESSAGE_BYTES + 1, socket.CMSG_SPACE(4))
            if not data:
                return
            self._take(messages.from_node(data), _descriptors(ancillary))

    def _take(self, message: object, descriptors: list[int]) -> None:
        if isinstance(message, Setup):
            self._home = message.home
            self._note(message)
            if os.path.exists(f"{self._home}/refuse"):
                sys.exit("refused")
            self._say(
                Ready(pid=os.getpid(), ingress_port=message.ingress_port or 40100, authority_pem=self._authority())
            )
            return
        self._note(message)
        if isinstance(message, StreamReply):
            if descriptors:
                with socket.socket(fileno=descriptors[0]) as led:
                    led.sendall(b"hello from the door")
            return
        if isinstance(message, Attach) and message.name == "streams":
            self._say(Stream(id=7, sandbox_id=message.sandbox_id))
        if isinstance(message, Attach) and message.name == "talks":
            self._talk(message.sandbox_id)
        self._say(self._reply(message))

    def _authority(self) -> str:
        """A real guest takes nothing but a certificate."""
        if not os.path.exists(f"{self._home}/cloche.db"):
            return "PEM"
        from cloche.egress.tls.authority import Authority

        return Authority.open(Path(self._home)).pem

    def _talk(self, sandbox_id: str) -> None:
        self._say(Happened(sandbox_id=sandbox_id, kind="egress_denied", data={"host": "x.example"}))
        self._say(Counted(sandbox_id=sandbox_id, counters=EgressCounters(sent_bytes=5, received_bytes=6)))
        self._say(Happened(sandbox_id="sb_unknown", kind="egress_denied", data={}))

    def _reply(self, message: object) -> Reply:
        number = message.id  # type: ignore[attr-defined]
        if isinstance(message, Publish):
            if message.address_port == 1:
                error = {"error": {"code": "unavailable_here" if message.port == 99 else "invalid", "message": "taken"}}
                return Reply(id=number, error=error)
            return Reply(id=number, data={"ingress_port": 40100, "address_port": message.address_port or 40200})
        if isinstance(message, Detach):
            return Reply(id=number, data={"sent_bytes": 11, "received_bytes": 12})
        return Reply(id=number)

    def _note(self, message: object) -> None:
        with open(f"{self._home}/told.jsonl", "ab") as told:
            told.write(messages.encode(message) + b"\n")  # type: ignore[arg-type]

    def _say(self, message: object) -> None:
        self._sock.send(messages.encode(message))  # type: ignore[arg-type]


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            found.frombytes(data)
    return list(found)


def told(home: object) -> list[dict[str, object]]:
    """What stubs of this directory were told, in order; read by the tests."""
    try:
        with open(f"{home}/told.jsonl", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    Stub(socket.socket(fileno=int(sys.argv[2]))).run()
