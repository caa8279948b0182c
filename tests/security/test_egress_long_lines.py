"""Words of code and of sites that would keep a parser busy for seconds, and with it the door of all sandboxes.

Each is read many times; one that took a second would run into the suite's own limit."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from cloche.egress.deciding import names, paths
from cloche.egress.hooks import Site
from cloche.egress.http.framing import BadMessageError
from cloche.egress.http.head_parsing import parse_request, parse_response
from cloche.egress.http.heads import RequestHead
from cloche.egress.messages import GivenSecret
from cloche.egress.outward import dnswire
from cloche.egress.secrecy.secrets import SiteSecrets, new_placeholder
from cloche.egress.sniff import first_bytes
from cloche.model.egress import Secret

TIMES = 60
N = 60_000
START = b"GET / HTTP/1.1\r\nHost: a.test\r\n"
BLANK, END = b" ", b"\r\n\r\n"
LINES = {
    "first line": b"GET" + BLANK * N + b"/ HTTP/1.1" + END,
    "first line with blanks at its end": b"GET / HTTP/1.1" + BLANK * N + END,
    "value": START + b"X: x" + BLANK * N + b"y" + END,
    "length": START + b"Content-Length: 1," + BLANK * N + b"1" + END,
    "length, blanks first": START + b"Content-Length: 1" + BLANK * N + b",1" + END,
    "coding": START + b"Transfer-Encoding: " + b"\t " * (N // 2) + b"chunked" + END,
    "tokens": START + b"Connection: " + b",a" * (N // 2) + END,
    "target": b"GET /" + b"%41" * (N // 3) + b" HTTP/1.1\r\nHost: a" + END,
    "authority": b"GET http://" + b"a." * (N // 2) + b"/ HTTP/1.1\r\nHost: a" + END,
    "expectation": START + b"Expect: 100-continue" + BLANK * N + b"x" + END,
    "headers": START + b"a:%25\r\n" * (N // 7) + b"\r\n",
    "upgrade": START + b"Connection: upgrade\r\nUpgrade: " + b"a, " * (N // 3) + b"a" + END,
}
FIRST = [b"X" + BLANK * N, b"X" * N + BLANK * N, b"X" + b" H" * N, b"X /" + b" HTTP/1." * N, b"\r\n" * N, b"GE" * N]
TEXTS: list[tuple[Callable[[str], object], str]] = [
    (names.read_host, "a-" * 126 + "."),
    (names.read_host, "0x" * 120),
    (names.read_host, "\u0661" * 250),
    (paths.plain_path, "/" + "a/" * 4000 + "%"),
    (paths.plain_path, "/" + "." * 8000),
    (paths.PathGlob("/**/a/**/a/**/a/**/b").matches, "/" + "a/" * 4000),
    (paths.PathGlob("/*a*a*a*a*a*a*b").matches, "/" + "a" * 8000),
]


def tried(read: Callable[..., object], *given: object) -> None:
    for _ in range(TIMES):
        try:
            read(*given)
        except (ValueError, BadMessageError):
            pass


@pytest.mark.parametrize("line", LINES)
def test_heads(line: str) -> None:
    tried(parse_request, LINES[line])
    asked: RequestHead = parse_request(START + b"\r\n")
    tried(parse_response, LINES[line].replace(b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"), asked)


@pytest.mark.parametrize("data", FIRST, ids=range(len(FIRST)))
def test_first_bytes(data: bytes) -> None:
    tried(first_bytes, data[: 16 << 10])


@pytest.mark.parametrize(("read", "text"), TEXTS, ids=range(len(TEXTS)))
def test_names_and_paths(read: Callable[[str], object], text: str) -> None:
    tried(read, text)


def test_a_dns_answer_of_thousands_of_names_that_point_at_a_long_one() -> None:
    question = dnswire.ask("a.test", "A", 7)[12:24]
    record = struct.pack(">HHIH", 1, 1, 60, 4) + b"\1\2\3\4"
    long_name = b"\1a" * 120 + b"\0"
    count = (dnswire.MAX_MESSAGE_BYTES - 24 - len(long_name) - len(record)) // (2 + len(record))
    head = struct.pack(">HHHHHH", 7, 0x8180, 1, 1 + count, 0, 0) + question
    answer = head + long_name + record + (b"\xc0\x18" + record) * count
    tried(dnswire.addresses, answer, "a.test", "A", 7)
    tried(dnswire.parse_query, head[:2] + b"\1\0\xff\xff" + head[6:] + question * 300)


@pytest.mark.parametrize("headers", [b"a:%25\r\n" * 255, b"a: " + b"%252525" * 8000 + b"\r\n"], ids=["many", "one"])
def test_headers_that_are_looked_through_for_many_secrets(headers: bytes) -> None:
    hosts = ["a.test"]
    given = [
        GivenSecret(secret=Secret(name=f"N{number}", hosts=hosts), value="v" * 40, placeholder=new_placeholder())
        for number in range(64)
    ]
    secrets = SiteSecrets(Site("a.test", 443, "https"), given, given)
    tried(secrets.into_head, parse_request(START + headers + b"\r\n"))
