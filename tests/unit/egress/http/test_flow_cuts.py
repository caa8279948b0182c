"""However the bytes of both sides are cut, the same requests leave and the same answers come back."""

from __future__ import annotations

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.egress.hooks import Site
from cloche.egress.http.flow import serve_requests
from tests.egress_peers import VALUE, Memory, PeerHooks, a_secret, ok

NAME = "api.example.com"
ONE = a_secret(places=["header", "body"])
PLACEHOLDER = ONE.placeholder.encode()
REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer %b\r\n\r\n" % PLACEHOLDER
    + b"POST /b HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 50\r\n\r\n<<%b>>" % PLACEHOLDER
    + b"POST /c HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"14\r\n%b\r\n1A\r\n%b\r\n0\r\n\r\n" % (PLACEHOLDER[:20], PLACEHOLDER[20:])
    + b"GET /d HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n"
)
SAID = VALUE.encode()
ANSWERS = [
    ok(b"1 " + SAID, b"X: " + SAID),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (SAID[:5], len(SAID) - 5, SAID[5:]),
    b"HTTP/1.1 103 Early\r\nX: %b\r\n\r\n" % SAID + ok(SAID + b" 3"),
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n4 %b" % SAID,
]
cuts = st.lists(st.integers(0, 700), max_size=12)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    at = sorted({min(one, len(data)) for one in at})
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


#: how each request ends on its way to the site
ENDS = [b"\r\n\r\n", b">>", b"\r\n0\r\n\r\n", b"\r\n\r\n"]


class OneAnswer(Memory):
    """Answers when the whole request is there: a site that answers before has its connections closed."""

    def __init__(self, number: int, way: list[int]) -> None:
        super().__init__(*cut(ANSWERS[number], way))
        self._asked, self._end = asyncio.Event(), ENDS[number]

    async def read(self, max_bytes: int) -> bytes:
        await self._asked.wait()
        return await super().read(max_bytes)

    async def write(self, data: bytes) -> None:
        await super().write(data)
        if self.written.endswith(self._end):
            self._asked.set()

    async def close(self) -> None:
        self._asked.set()
        await super().close()


class CutHooks(PeerHooks):
    """Each connection to the site answers the request that comes next, and then rests."""

    def prepare(self, ways: list[list[int]]) -> None:
        self.ways, self.streams = ways, []

    async def dial(self, host, port):
        number = len(self.streams)
        self.streams.append(OneAnswer(number, self.ways[number]))
        return self.streams[-1]


def carry(requests: list[bytes], ways: list[list[int]]) -> tuple[Memory, CutHooks]:
    async def run():
        hooks = CutHooks(given=[ONE])
        hooks.prepare(ways)

        async def connect(site):
            return await hooks.dial(site.host, site.port)

        client = Memory(*requests)
        await serve_requests(client, Site(NAME, 443, "https"), hooks, connect=connect)
        return client, hooks

    return asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(cuts, st.lists(cuts, min_size=4, max_size=4))
def test_any_cuts(of_client, of_site):
    client, hooks = carry(cut(REQUESTS, of_client), of_site)
    sent = [stream.written for stream in hooks.streams]
    assert b"Authorization: Bearer " + SAID in sent[0]
    assert sent[1].endswith(b"<<" + SAID + b">>") and b"Content-Length: %d\r\n" % (len(SAID) + 4) in sent[1]
    assert re.sub(rb"\r\n[0-9a-f]+\r\n", b"", sent[2].partition(b"\r\n\r\n")[2]).find(SAID[-8:]) >= 0
    assert not any(PLACEHOLDER in one for one in sent)
    assert [record.status for record in hooks.records] == [200] * 4
    assert SAID not in client.written and client.written.count(b"[secret TOKEN]") >= 5
    assert client.written.endswith(b"4 " + b"[secret TOKEN]".ljust(len(SAID), b"*"))
    assert client.closed and all(stream.closed for stream in hooks.streams)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(REQUESTS)), cuts)
def test_a_client_that_ends_anywhere(end, of_client):
    client, hooks = carry(cut(REQUESTS[:end], of_client), [[]] * 4)
    assert client.closed and all(stream.closed for stream in hooks.streams)
    assert len(hooks.records) <= 5 and not any(PLACEHOLDER in stream.written for stream in hooks.streams)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), cuts)
def test_whatever_a_client_says(data, of_client):
    client, _ = carry(cut(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n" + data, of_client), [[]] * 4)
    assert client.closed
