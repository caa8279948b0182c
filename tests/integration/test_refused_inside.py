"""UDP, pings and whatever else is no TCP do not leave a sandbox. That is seen: by the code, in the log, as an event,
and in what a closed one has tried."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from cloche import Sandbox
from cloche.model.egress import AuditLine
from tests.integration.egress_world import NAME, WAIT_SECONDS
from tests.integration.world_fixtures import inside

T = TypeVar("T")
#: sends what it is told to: HOST PORT [TIMES]; says what it was answered
SEND = """
import socket, sys, time
host, port, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
(family, kind, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
for number in range(times):
    with socket.socket(family, kind) as one:
        one.connect(address)
        try:
            one.send(b"?")
            one.settimeout(20)
            one.recv(1)
        except OSError as error:
            said = error.strerror
print(said)
if sys.argv[4:]:
    time.sleep(float(sys.argv[4]))
"""


def sent(box: Sandbox, host: str, port: int, times: int = 1) -> str:
    done = box.exec("python3", "-c", SEND, host, str(port), str(times), timeout_seconds=60)
    return done.stdout.strip() + done.stderr


def until(found: Callable[[], T]) -> T:
    """What the guest tells comes a moment later."""
    for _ in range(100 * WAIT_SECONDS):
        if what := found():
            return what
        time.sleep(0.01)
    raise AssertionError("nobody has told of it")


def lines_of(box: Sandbox, host: str) -> list[AuditLine]:
    return [line for line in box.egress_log(verdicts=["denied"], host=host) if line.via == "inside"]


@pytest.mark.parametrize(("host", "shown"), [("192.0.2.9", "192.0.2.9"), ("2001:db8::9", "2001:db8::9"), (NAME, NAME)])
def test_a_datagram_is_refused_and_seen(telling: Sandbox, host: str, shown: str) -> None:
    assert sent(telling, host, 443) == "Connection refused"
    (line,) = until(lambda: lines_of(telling, shown))
    assert (line.verdict, line.rule, line.host, line.port, line.protocol) == ("denied", "no-udp", shown, 443, "udp")
    events = until(lambda: [event for event in telling.events() if event.kind == "sandbox.egress_denied"])
    assert events[0].data["host"] == shown and events[0].data["rule"] == "no-udp"


def test_the_program_is_named_that_still_runs(telling: Sandbox) -> None:
    telling.spawn("python3", "-c", SEND, "192.0.2.9", "123", "1", "60")
    (line,) = until(lambda: lines_of(telling, "192.0.2.9"))
    assert line.process in ("", "python3") and line.pid >= 0


def test_what_is_tried_again_and_again_is_counted_whole(telling: Sandbox) -> None:
    assert sent(telling, "192.0.2.9", 443, 40) == "Connection refused"
    until(lambda: sum(1 + line.repeated for line in lines_of(telling, "192.0.2.9")) == 40)
    assert len(lines_of(telling, "192.0.2.9")) < 10
    until(lambda: telling.egress().counters.denied == 40)


def test_no_policy_is_suggested_for_it(telling: Sandbox) -> None:
    sent(telling, "192.0.2.9", 443)
    until(lambda: lines_of(telling, "192.0.2.9"))
    found = telling.suggest_policy()
    assert found.words == [] and [(one.host, one.port, one.protocol) for one in found.tried] == [
        ("192.0.2.9", 443, "udp")
    ]


def test_what_a_closed_one_tried_is_remembered(home: Path, telling: Sandbox) -> None:
    telling.set_policy(None)
    assert sent(telling, "192.0.2.9", 443, 3) == "Connection refused"
    tried = until(
        lambda: [one for one in inside(home, telling).get("/v1/egress/attempts")["attempts"] if one["count"] == 3]
    )
    assert [(one["host"], one["port"], one["protocol"]) for one in tried] == [("192.0.2.9", 443, "udp")]


GRAB = """
import json, socket
said = []
for protocol in (12, 4):
    try:
        said.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol).fileno())
    except OSError as error:
        said.append(error.strerror)
print(json.dumps(said))
"""


def test_code_has_no_socket_by_which_it_could_hide_it(telling: Sandbox) -> None:
    """Neither one of its own, nor the guest's, which it does not inherit."""
    done = telling.exec("python3", "-c", GRAB, user="root")
    assert not any(isinstance(one, int) for one in json.loads(done.stdout)), done.stdout
    held = telling.exec("sh", "-c", "ls -l /proc/self/fd/")
    assert "socket:" not in held.stdout
