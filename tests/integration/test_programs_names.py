"""Programs that look names up in their own ways: glibc with its options, c-ares in node, dig, busybox, and what a libc
for static programs does. All get the same answer, at once, over UDP and TCP; other UDP is refused at once, so that what
tries HTTP/3 first goes on with HTTP/2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from cloche import Sandbox
from tests.integration.dns_server import dns_server
from tests.integration.program_boxes import need, node_of

NAME, OTHER = "names.example", "denied.example"
GIVEN = r"198\.1[89]\.\d+\.\d+"
#: as musl does it: both questions on one socket, before either answer
_BOTH_AT_ONCE = """
import socket, sys
def question(number, kind):
    name = b"".join(bytes([len(part)]) + part for part in sys.argv[1].encode().split(b"."))
    return bytes([0, number, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + name + b"\\0\\0" + bytes([kind, 0, 1])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(30)
    for number, kind in ((1, 1), (2, 28)):
        sock.sendto(question(number, kind), ("127.0.0.1", 53))
    answers = sorted(sock.recv(512) for _ in range(2))
print([(answer[1], answer[3] & 15, answer[7]) for answer in answers])
"""
_UDP = """
import errno, socket, sys
for port in (443, 123, 5353):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.connect((sys.argv[1], port))
        sock.send(b"x" * 1200)
        try:
            sock.recv(1)
        except OSError as error:
            print(errno.errorcode.get(error.errno, "late"))
"""
_NODE = """
const dns = require("node:dns").promises, [name, other] = process.argv.slice(1)
const code = error => error.code
Promise.all([dns.resolve4(name).then(found => found.length), dns.resolve6(name).catch(code),
  dns.resolveTxt(name).then(found => found.flat()), dns.resolveSrv(name).catch(code), dns.resolve4(other).catch(code),
  dns.lookup(other).catch(code), dns.resolveAny(name).catch(code)]).then(all => console.log(JSON.stringify(all)))
"""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    home = tmp_path_factory.mktemp("node") / "home"
    with dns_server() as names, node_of("namespace", request, home, CLOCHE_DNS=names.address) as create:
        names.add(NAME, "192.0.2.7")
        names.add(NAME, '"said"', kind="TXT")
        with create(net=NAME) as made:
            yield made


@pytest.mark.parametrize("options", ["", "edns0 trust-ad", "use-vc", "single-request-reopen", "single-request rotate"])
def test_glibc(box: Sandbox, options: str) -> None:
    found = box.exec("getent", "ahosts", NAME, env={"RES_OPTIONS": options})
    assert re.match(f"{GIVEN} +STREAM {NAME}\n", found.stdout), found
    assert box.exec("getent", "ahostsv6", NAME, env={"RES_OPTIONS": options}).exit_code == 2
    assert box.exec("getent", "ahosts", OTHER, env={"RES_OPTIONS": options}).exit_code == 2


def test_two_questions_at_once(box: Sandbox) -> None:
    done = box.exec("python3", "-c", _BOTH_AT_ONCE, NAME)
    assert done.stdout == "[(1, 0, 1), (2, 0, 0)]\n", done.stderr


def test_node_and_its_own_resolver(box: Sandbox) -> None:
    need(box, "node")
    done = box.exec("node", "-e", _NODE, NAME, OTHER)
    said = json.loads(done.stdout)
    assert said == [1, "ENODATA", ["said"], "ENODATA", "ENOTFOUND", "ENOTFOUND", "EREFUSED"], done.stderr


@pytest.mark.parametrize(
    "options", [(), ("+tcp",), ("+dnssec", "+cookie"), ("+noedns",), ("+bufsize=512",), ("+notcp", "@192.0.2.53")]
)
def test_dig(box: Sandbox, options: tuple[str, ...]) -> None:
    """Whichever server it asks, too: over UDP there is only the one."""
    need(box, "dig")
    dig = ("dig", "+time=20", "+tries=1", *options)
    assert re.fullmatch(f"{GIVEN}\n", box.exec(*dig, "+short", NAME).stdout)
    for name, kind, status in ((NAME, "AAAA", "NOERROR"), (NAME, "HTTPS", "NOERROR"), (OTHER, "A", "NXDOMAIN")):
        said = box.exec(*dig, name, kind).stdout
        assert f"status: {status}" in said and "ANSWER: 0" in said, said
    assert "status: REFUSED" in box.exec(*dig, NAME, "ANY").stdout


def test_busybox(box: Sandbox) -> None:
    need(box, "busybox")
    assert re.search(f"Address: {GIVEN}\n", box.exec("busybox", "nslookup", NAME).stdout)
    assert "NXDOMAIN" in box.exec("busybox", "nslookup", OTHER).stdout
    refused = box.exec("busybox", "wget", "-O-", f"http://{OTHER}/", env={"http_proxy": ""})
    assert refused.exit_code == 1 and "bad address" in refused.stderr, refused


def test_udp_that_is_no_question_is_refused_at_once(box: Sandbox) -> None:
    assert box.exec("python3", "-c", _UDP, NAME).stdout == "ECONNREFUSED\n" * 3
