"""What code can do with what its sandbox's kernel tells of it: it hides nothing by it, and costs nobody anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cloche import Sandbox
from cloche.model.egress import AuditLine
from tests.integration.egress_world import NAME, WAIT_SECONDS, World

MANY = 20_000
#: a datagram to each of so many places, as fast as it can
FLOOD = f"""
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range({MANY}):
    one.sendto(b"x" * (number % 1400), (f"192.0.2.{{number % 250 + 1}}", 1024 + number // 250))
print("sent")
"""
#: options in front of the ports, every length and none, IPv6, pings of any kind
ODD = """
import socket, struct
def tried(work):
    try:
        work()
    except OSError:
        pass
for length in range(0, 44, 4):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        tried(lambda: one.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\\x01" * length))
        tried(lambda: one.sendto(b"", ("192.0.2.77", 53 + length)))
        tried(lambda: one.sendto(b"x" * 60000, ("192.0.2.78", 53 + length)))
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
    for option in (54, 59, 55, 57):
        tried(lambda: one.setsockopt(socket.IPPROTO_IPV6, option, struct.pack("BB", 60, 0) + b"\\0" * 6))
    tried(lambda: one.sendto(b"x", ("2001:db8::77", 443)))
    tried(lambda: one.sendto(b"x" * 60000, ("2001:db8::77", 443)))
def ping(kind):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as one:
        one.sendto(bytes([kind]) + b"\\0" * 7, ("192.0.2.77", 0))
for kind in (0, 8, 13, 255):
    tried(lambda: ping(kind))
print("sent")
"""
#: the sandbox's own user finds no socket that it has not made
INHERITED = """
import os
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("fd", *(f"task/{each}/fd" for each in os.listdir(f"/proc/{pid}/task"))):
        try:
            for fd in os.listdir(f"/proc/{pid}/{name}"):
                what = os.readlink(f"/proc/{pid}/{name}/{fd}")
                if what.startswith("socket:"):
                    found.append((pid, fd, what))
        except OSError:
            pass
print(found)
"""


def refused(box: Sandbox) -> list[AuditLine]:
    return [line for line in box.egress_log(verdicts=["denied"]) if line.via == "inside"]


def until(found: Callable[[], bool]) -> None:
    """What the guest tells comes a moment later."""
    for _ in range(20 * WAIT_SECONDS):
        if found():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


def fetched(box: Sandbox, world: World) -> str:
    return box.exec("curl", "-s", "--max-time", "20", f"{world.url}/").stdout


@pytest.mark.slow
def test_a_flood_is_counted_whole_and_costs_its_sandbox_nothing_else(telling: Sandbox, world: World) -> None:
    assert telling.exec("python3", "-c", FLOOD, timeout_seconds=60).stdout == "sent\n"
    assert fetched(telling, world) == "hello /\n"
    # those at the end for which there was no room are missed when the next one comes
    until(lambda: bool(refused(telling)))
    assert telling.exec("python3", "-c", FLOOD.replace(str(MANY), "1")).stdout == "sent\n"
    until(lambda: telling.egress().counters.denied == MANY + 1)
    until(lambda: sum(1 + line.repeated for line in refused(telling)) == MANY + 1)
    assert len(refused(telling)) < 200


def test_odd_packets_break_nothing(telling: Sandbox, world: World) -> None:
    for user in ("user", "root"):
        assert telling.exec("python3", "-c", ODD, user=user).stdout == "sent\n"
    until(lambda: {"192.0.2.77", "2001:db8::77"} <= {line.host for line in refused(telling)})
    assert fetched(telling, world) == "hello /\n"
    assert not [word for word in telling.suggest_policy().words if NAME not in word]


@pytest.mark.parametrize("user", ["user", "root"])
def test_the_socket_is_out_of_reach(telling: Sandbox, user: str) -> None:
    assert telling.exec("python3", "-c", INHERITED, user=user).stdout == "[]\n"
    assert telling.run_code(INHERITED).stdout == "[]\n"
