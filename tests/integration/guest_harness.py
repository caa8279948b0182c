"""The guest by itself, on a socket in a directory: no box, no node. Every event is checked as the host checks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloche.guest_api import text
from cloche.guest_api.events import EventDecoder
from cloche.model.code import CodeEnded, CodeError, CodeEvent, CodeOutput, CodeResult

BINARY = Path(__file__).parents[2] / "src/cloche/_bin/cloche-guest"
PATH = "/usr/local/bin:/usr/bin:/bin"
DEADLINE_SECONDS = 60.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("guest", timeout=DEADLINE_SECONDS)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Told:
    """What one execution said."""

    events: list[CodeEvent] = field(default_factory=list)

    def of(self, kind: type[Any] | tuple[type[Any], ...]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def stream(self, name: str) -> str:
        return "".join(event.text for event in self.of(CodeOutput) if event.stream == name)

    @property
    def stdout(self) -> str:
        return self.stream("stdout")

    @property
    def stderr(self) -> str:
        return self.stream("stderr")

    @property
    def value(self) -> str | None:
        """The plain text of the last expression."""
        found = [event.data.get("text/plain") for event in self.of(CodeResult) if event.kind == "value"]
        return found[-1] if found else None

    @property
    def error(self) -> CodeError:
        return self.of(CodeError)[-1]

    @property
    def end(self) -> CodeEnded:
        last = self.events[-1]
        assert isinstance(last, CodeEnded)
        return last


class Stream:
    """The events of one execution as they come."""

    def __init__(self, connection: _Connection, answer: http.client.HTTPResponse, after: int | None = None) -> None:
        self._connection, self._answer = connection, answer
        self._decoder = EventDecoder(after=after)
        self.told = Told()

    def until(self, kind: type[Any]) -> Any:
        """The next event of this kind."""
        while True:
            for event in self._more():
                if isinstance(event, kind):
                    return event

    def _more(self) -> list[CodeEvent]:
        line = self._answer.readline()
        assert line, "the events ended"
        events = self._decoder.feed(line)
        self.told.events += events
        return events

    def finish(self) -> Told:
        while not self._decoder.ended:
            self._more()
        assert self._answer.read() == b""
        self.close()
        return self.told

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


class Guest:
    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, method: str, target: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded answer."""
        connection = _Connection(self.path)
        with contextlib.closing(connection):
            connection.request(method, target, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
        return answer.status, json.loads(data) if data else None

    def get(self, target: str) -> Any:
        status, found = self.ask("GET", target)
        assert status == 200, found
        return found

    def create(self, language: str = "python", **spec: object) -> str:
        status, made = self.ask("POST", "/v1/contexts", {"language": language, **spec})
        assert status == 201, made
        return str(made["id"])

    def stream(self, code: str, **spec: object) -> Stream:
        connection = _Connection(self.path)
        connection.request("POST", "/v1/executions", text.encode({"code": code, **spec}))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return Stream(connection, answer)

    def run(self, code: str, **spec: object) -> Told:
        return self.stream(code, **spec).finish()

    def read(self, execution: str, after: int = 0, *, follow: bool = False) -> Told:
        """The events above `after`, all of them when following."""
        connection = _Connection(self.path)
        connection.request("GET", f"/v1/executions/{execution}?after={after}&follow={int(follow)}")
        answer = connection.getresponse()
        assert answer.status == 200
        if follow:
            return Stream(connection, answer, after).finish()
        told = Told(EventDecoder(after=after).feed(answer.read()))
        connection.close()
        return told


@contextlib.contextmanager
def guest(place: Path, **env: str) -> Iterator[Guest]:
    """One that serves in `place` and is gone, with everything that it started, at the end."""
    home = place / "home"
    home.mkdir()
    path = place / "guest.sock"
    settings = {"PATH": PATH, "CLOCHE_SHARED_UID": "1", "GOTRACEBACK": "all", **env}
    with subprocess.Popen([BINARY, "--listen", path], env=settings, cwd=home, stderr=subprocess.PIPE) as process:
        try:
            served = Guest(path)
            _wait_until_it_listens(path, process)
            session = {"workdir": str(home), "env": {"HOME": str(home), "PATH": PATH}}
            assert served.ask("PUT", "/v1/session", session)[0] == 204
            yield served
            _remove_all(served)
        finally:
            process.kill()


def _remove_all(served: Guest) -> None:
    for info in served.get("/v1/contexts")["contexts"]:
        served.ask("DELETE", f"/v1/contexts/{info['id']}")


def _wait_until_it_listens(path: Path, process: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    while process.poll() is None:
        with contextlib.suppress(OSError), contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            probe.connect(str(path))
            return
        pause.wait(0.005)
    raise AssertionError("the guest ended at its start")


def has(program: str) -> bool:
    return shutil.which(program, path=PATH) is not None


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_absent(pid: int) -> bool:
    """Wait until a process has gone; False when it stays."""
    pause = threading.Event()
    for _ in range(2000):
        if not alive(pid):
            return True
        pause.wait(0.005)
    return False
