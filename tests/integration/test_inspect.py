"""TLS that the door ends: real TLS on both sides on loopback, wrong certificates, hostile sites, hostile code."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import gzip
import json
import shutil
import socket
import ssl
import zlib
from urllib.parse import quote

import pytest

from cloche.egress.hooks import Site
from cloche.egress.tls import certificates as certificates_module
from cloche.egress.tls.authority import Authority
from cloche.egress.tls.inspect import Inspector
from tests.egress_peers import (
    VALUE,
    PeerHooks,
    a_client,
    a_door,
    a_secret,
    a_site,
    answering,
    echo,
    ok,
    read_request,
    trusting,
)

pytestmark = pytest.mark.anyio

NAME = "api.example.com"
SITE = Site(NAME, 443)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def ours():
    return Authority.new()


@pytest.fixture(scope="module")
def theirs():
    """Whom the door trusts for sites."""
    return Authority.new()


@pytest.fixture
def inspector(ours, theirs, tmp_path):
    (tmp_path / "theirs.pem").write_text(theirs.pem)
    return Inspector(ours, tmp_path / "theirs.pem")


@contextlib.asynccontextmanager
async def a_way(inspector, handler, context, hooks=None, site=SITE):
    """The door's address for a site that shows `context`."""
    hooks = hooks or PeerHooks()
    async with a_site(handler, context) as address:
        hooks.sites[site.host] = address
        async with a_door(lambda stream: inspector.inspect_tls(stream, site, hooks)) as door:
            yield door, hooks


@contextlib.asynccontextmanager
async def through(inspector, ours, handler, context, hooks=None):
    async with a_way(inspector, handler, context, hooks) as (door, hooks):
        async with a_client(door, trusting(ours), NAME) as client:
            yield client, hooks


def a_get(path="/", *headers, host=NAME):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{''.join(h + chr(13) + chr(10) for h in headers)}\r\n".encode()


def a_post(body, *headers):
    more = "".join(f"{header}\r\n" for header in headers)
    return f"POST /p HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def code_of(body):
    return json.loads(body)["error"]["code"]


async def test_requests_inside_tls(inspector, ours, theirs):
    async with through(inspector, ours, echo, theirs.context(NAME)) as (client, hooks):
        for number in range(3):
            assert f"GET /{number}?a=b ".encode() in (await client.ask(a_get(f"/{number}?a=b")))[2]
    assert len(hooks.dialled) == 1 and hooks.decided[0] == (NAME, 443, "tls", "GET", "/0")
    assert {record.site.scheme for record in hooks.records} == {"https"}


async def test_large_bodies_both_ways(inspector, ours, theirs):
    async with through(inspector, ours, echo, theirs.context(NAME)) as (client, _):
        assert (await client.ask(a_post(b"z" * 900_000)))[2].endswith(b"z" * 900_000)


async def test_curl(inspector, ours, theirs, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "ours.pem").write_text(ours.pem)
    async with a_way(inspector, echo, theirs.context(NAME)) as ((host, port), _):
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--http2", "--noproxy", "*", "--cacert", tmp_path / "ours.pem", "--max-time", "20",
            "--connect-to", f"{NAME}:443:{host}:{port}", f"https://{NAME}/a", f"https://{NAME}/b",
            "-w", "%{http_version} ",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"GET /a HTTP/1.1" in out and b"GET /b HTTP/1.1" in out and b"1.1 " in out


async def test_a_denied_request_is_answered_inside_and_nobody_is_dialled(inspector, ours, theirs):
    hooks = PeerHooks(denied={"/no"})
    async with through(inspector, ours, echo, theirs.context(NAME), hooks) as (client, _):
        status, _, body = await client.ask(a_get("/no"))
        assert await client.reader.read() == b""
    assert (status, code_of(body)) == (403, "egress_denied") and not hooks.dialled


async def test_a_host_inside_that_differs_from_the_name_outside(inspector, ours, theirs):
    async with through(inspector, ours, echo, theirs.context(NAME)) as (client, hooks):
        status, _, _ = await client.ask(a_get(host="evil.example"))
    assert status == 403 and not hooks.dialled


def expired(theirs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates_module, "LEAF_LIFE", datetime.timedelta(hours=-1))
        return Authority(theirs._key, theirs._certificate).context(NAME)


def old_tls(theirs):
    context = Authority(theirs._key, theirs._certificate).context(NAME)
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def another_alpn(theirs):
    return Authority(theirs._key, theirs._certificate).context(NAME)


@pytest.mark.parametrize(
    "make, reason",
    [
        (expired, "certificate has expired"),
        (lambda theirs: Authority.new().context(NAME), "self-signed certificate in certificate chain"),
        (lambda theirs: theirs.context("other.example"), "Hostname mismatch"),
        (lambda theirs: theirs.context("192.0.2.7"), "Hostname mismatch"),
        (old_tls, "TLS with it failed"),
    ],
    ids=["expired", "unknown issuer", "other name", "address", "old version"],
)
async def test_a_site_that_is_not_who_it_should_be(inspector, ours, theirs, make, reason):
    seen, one = [], a_secret()
    hooks = PeerHooks(given=[one])
    async with through(inspector, ours, answering(ok(), seen=seen), make(theirs), hooks) as (client, _):
        status, _, body = await client.ask(a_get("/", f"Authorization: {one.placeholder}"))
    assert status == 502 and reason in json.loads(body)["error"]["message"]
    assert not seen and hooks.records[0].verdict == "failed" and reason in hooks.records[0].reason


async def test_a_site_that_speaks_no_tls(inspector, ours):
    async def handler(reader, writer):
        writer.write(b"HTTP/1.1 400 no\r\n\r\n")
        await reader.read()

    async with through(inspector, ours, handler, None) as (client, _):
        assert (await client.ask(a_get()))[0] == 502


async def test_an_address_is_verified_as_one(inspector, ours, theirs):
    site = Site("192.0.2.1", 443)
    hooks = PeerHooks()
    async with a_way(inspector, echo, theirs.context("192.0.2.1"), hooks, site) as (door, _):
        async with a_client(door, trusting(ours), "192.0.2.1") as client:
            assert (await client.ask(a_get(host="192.0.2.1")))[0] == 200


async def alert_of(door, *, alpn=None, name=NAME, context=None):
    """What an ordinary blocking client is told."""
    context = context or ssl._create_unverified_context()
    if alpn:
        context.set_alpn_protocols(alpn)

    def shake():
        with socket.create_connection(door, 10) as sock, pytest.raises(ssl.SSLError) as caught:
            context.wrap_socket(sock, server_hostname=name)
        return str(caught.value).upper().replace(" ", "_")

    return await asyncio.to_thread(shake)


async def test_a_client_that_speaks_http2_only_gets_an_alert(inspector, theirs):
    async with a_way(inspector, echo, theirs.context(NAME)) as (door, hooks):
        assert "NO_APPLICATION_PROTOCOL" in await alert_of(door, alpn=["h2"])
    assert "h2 only" in hooks.records[0].reason and not hooks.dialled


async def test_a_hello_that_names_another_site_gets_an_alert(inspector, theirs):
    async with a_way(inspector, echo, theirs.context(NAME)) as (door, hooks):
        assert "UNRECOGNIZED_NAME" in await alert_of(door, name="evil.example")
    assert hooks.records[0].verdict == "denied" and not hooks.dialled


async def test_a_hello_that_names_no_site_gets_an_alert(inspector, theirs):
    async with a_way(inspector, echo, theirs.context(NAME)) as (door, hooks):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        assert "ACCESS_DENIED" in await alert_of(door, name=None, context=context)
        await hooks.recorded.wait()
    assert hooks.records[0].verdict == "denied" and "no SNI" in hooks.records[0].reason
    assert not hooks.handshakes


async def test_one_handshake_too_many_gets_an_alert_and_is_a_limit(inspector, theirs):
    async with a_way(inspector, echo, theirs.context(NAME), PeerHooks(no_handshake=True)) as (door, hooks):
        assert "INTERNAL_ERROR" in await alert_of(door)
        await hooks.recorded.wait()
    (record,) = hooks.records
    assert (record.verdict, record.decision.rule) == ("limit", "budget certificates")


async def test_a_certificate_is_made_once_for_each_name(inspector, ours, theirs):
    inspector = Inspector(Authority.new())
    async with a_way(inspector, echo, theirs.context(NAME)) as (door, hooks):
        for _ in range(3):
            async with a_client(door, trusting(inspector.authority), NAME):
                pass
    assert hooks.handshakes == [True, False, False]


async def test_a_client_that_trusts_only_its_own_list_is_told_so_in_the_audit(inspector, theirs):
    async with a_way(inspector, echo, theirs.context(NAME)) as (door, hooks):
        assert "CERTIFICATE_VERIFY_FAILED" in await alert_of(door, context=ssl.create_default_context())
        await hooks.recorded.wait()
    assert "does not trust the door's certificate" in hooks.records[0].reason


@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x16\x03\x01"]
)
async def test_what_is_no_hello_ends_the_connection(inspector, theirs, junk):
    async with a_way(inspector, echo, theirs.context(NAME)) as (door, hooks):
        async with a_client(door) as client:
            await client.say(junk)
            client.writer.write_eof()
            await client.reader.read()
    assert hooks.records[0].verdict in ("denied", "failed") and not hooks.dialled


async def test_a_secret_reaches_its_site_and_nobody_else(inspector, ours, theirs):
    one = a_secret()
    seen = []
    async with through(inspector, ours, answering(ok(), seen=seen), theirs.context(NAME), PeerHooks(given=[one])) as (
        client,
        hooks,
    ):
        await client.ask(a_get("/", f"Authorization: Bearer {one.placeholder}", "Accept-Encoding: gzip, br"))
        basic = base64.b64encode(f"me:{one.placeholder}".encode()).decode()
        await client.ask(a_get("/", f"Authorization: Basic {basic}"))
    assert f"Authorization: Bearer {VALUE}\r\n".encode() in seen[0] and b"Accept-Encoding: identity" in seen[0]
    assert base64.b64encode(f"me:{VALUE}".encode()) in seen[1]
    assert [record.secrets for record in hooks.records] == [["TOKEN"], ["TOKEN"]] and not hooks.events
    assert VALUE not in repr(hooks.records)


@pytest.mark.parametrize("size", [10, 100_000, 400_000])
async def test_a_secret_in_a_body_that_asks_for_it(inspector, ours, theirs, size):
    one = a_secret(places=["body"])
    seen = []
    hooks = PeerHooks(given=[one])
    async with through(inspector, ours, answering(ok(), seen=seen), theirs.context(NAME), hooks) as (client, _):
        padding = b"p" * size
        assert (await client.ask(a_post(padding + one.placeholder.encode() + padding)))[0] == 200
        assert (await client.ask(a_get()))[0] == 200
    assert seen[0].endswith(padding + VALUE.encode() + padding) or VALUE.encode() in seen[0].replace(b"\r\n", b"")
    assert hooks.records[0].secrets == ["TOKEN"]


async def test_a_body_with_a_secret_and_a_client_that_waits_for_100(inspector, ours, theirs):
    one = a_secret(places=["body"])
    async with through(inspector, ours, echo, theirs.context(NAME), PeerHooks(given=[one])) as (client, _):
        request = a_post(one.placeholder.encode(), "Expect: 100-continue")
        head, _, body = request.partition(b"\r\n\r\n")
        assert (await client.ask(head + b"\r\n\r\n", False))[0] == 100
        assert b"[secret TOKEN]" in (await client.ask(body))[2]


async def test_a_placeholder_in_a_body_ends_the_request_before_it_leaves(inspector, ours, theirs):
    one = a_secret()
    got = bytearray()

    async def handler(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(1 << 16):
                got.extend(data)

    async with through(inspector, ours, handler, theirs.context(NAME), PeerHooks(given=[one])) as (client, hooks):
        half = one.placeholder.encode().upper()
        await client.say(a_post(b"x" * 300_000 + half + b"y" * 1000)[: 300_000 + 100])
        await client.say(a_post(b"x" * 300_000 + half + b"y" * 1000)[300_000 + 100 :])
        status, _, body = await client.answer()
    assert (status, code_of(body)) == (403, "secret_misused") and b"cloche-secret-" not in bytes(got).lower()
    assert hooks.events[0]["what"] == "misused" and hooks.records[0].verdict == "denied"


@pytest.mark.parametrize(
    "make",
    [
        lambda p: a_get(f"/{p}"),
        lambda p: a_get(f"/?q={p}"),
        lambda p: a_get("/" + quote(quote(p.replace("-", "%2d")))),
        lambda p: a_get("/", f"X: {p.upper()}"),
        lambda p: a_get("/", f"X: {base64.b64encode(b'a' + p.encode()).decode()}"),
        lambda p: a_get("/", f"{p}: x"),
        lambda p: a_get("/", f"Connection: {p}"),
        lambda p: a_post(f"a={p}".encode()),
        lambda p: (
            f"POST / HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n\r\n17\r\n{p[:23]}\r\n17\r\n{p[23:]}\r\n"
            "0\r\n\r\n".encode()
        ),
        lambda p: f"{p} / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode(),
    ],
)
async def test_hostile_code_puts_placeholders_everywhere(inspector, ours, theirs, make):
    one = a_secret()
    seen = []
    hooks = PeerHooks(given=[one])
    async with through(inspector, ours, answering(ok(), seen=seen), theirs.context(NAME), hooks) as (client, _):
        status, _, body = await client.ask(make(one.placeholder))
    assert (status, code_of(body)) in [(403, "secret_misused"), (501, "bad_request")]
    assert not any(b"cloche-secret-" in one.lower() for one in seen)


async def test_trailers_with_placeholders_do_not_get_through(inspector, ours, theirs):
    one = a_secret()
    request = f"POST / HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {one.placeholder}\r\n\r\n"
    async with through(inspector, ours, echo, theirs.context(NAME), PeerHooks(given=[one])) as (client, _):
        assert b"cloche-secret" not in (await client.ask(request.encode()))[2]


async def test_another_sites_secret_is_refused(inspector, ours, theirs):
    one = a_secret(host="other.example")
    hooks = PeerHooks(given=[one])
    async with through(inspector, ours, echo, theirs.context(NAME), hooks) as (client, _):
        status, _, body = await client.ask(a_get("/", f"Authorization: {one.placeholder}"))
    assert (status, code_of(body)) == (403, "secret_misused") and not hooks.dialled


async def test_a_secret_that_nobody_knows_now(inspector, ours, theirs):
    one = a_secret(value=None)
    hooks = PeerHooks(given=[one])
    async with through(inspector, ours, echo, theirs.context(NAME), hooks) as (client, _):
        status, _, body = await client.ask(a_get("/", f"Authorization: {one.placeholder}"))
    assert (status, code_of(body)) == (403, "secret_missing") and hooks.events[0]["what"] == "missing"


def forms():
    raw = VALUE.encode()
    return [raw, base64.b64encode(b"me:" + raw), base64.urlsafe_b64encode(raw + b"x"), quote(VALUE, safe="").encode()]


def in_chunks(data, size):
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda text: ok(b"you said " + text),
        lambda text: ok(b"", b"X-Echo: " + text, b"Location: https://evil.example/?" + text),
        lambda text: in_chunks(b"<" + text + b">", 1),
        lambda text: in_chunks(b"<" + text + b">", 7),
        lambda text: ok(gzip.compress(text), b"Content-Encoding: gzip"),
        lambda text: ok(zlib.compress(text), b"Content-Encoding: deflate"),
        lambda text: ok(gzip.compress(text[:9]) + gzip.compress(text[9:]), b"Content-Encoding: gzip"),
        lambda text: ok(text, b"Content-Encoding: br"),
        lambda text: ok(text, b"Content-Encoding: gzip, gzip"),
        lambda text: ok(b"x", b"Content-Encoding: " + text),
        lambda text: ok(b"", text + b": x"),
        lambda text: text + b"\r\n\r\n",
        lambda text: b"HTTP/1.1 200 OK\r\nContent-Length: " + text + b"\r\n\r\n",
        lambda text: b"HTTP/1.1 200 " + text + b"\r\nContent-Length: 0\r\n\r\n",
        lambda text: b"HTTP/1.1 103 Early\r\nLink: " + text + b"\r\n\r\n" + ok(text),
    ],
)
@pytest.mark.parametrize("form", range(4))
async def test_a_site_that_sends_a_value_back(inspector, ours, theirs, make, form):
    text = forms()[form]
    one = a_secret()
    hooks = PeerHooks(given=[one])
    async with through(inspector, ours, answering(make(text)), theirs.context(NAME), hooks) as (client, _):
        await client.say(a_get("/", f"Authorization: {one.placeholder}", "Connection: close"))
        everything = await client.reader.read()
    assert not any(text in everything for text in forms()) and base64.b64encode(VALUE.encode())[3:-4] not in everything
    refused = b"HTTP/1.1 502" in everything
    assert refused or any(event["what"] == "redacted" for event in hooks.events)
    assert VALUE not in repr((hooks.events, hooks.records))


async def test_an_answer_that_cannot_be_searched_says_so(inspector, ours, theirs):
    hooks = PeerHooks(given=[a_secret()])
    handler = answering(ok(b"x", b"Content-Encoding: br"))
    async with through(inspector, ours, handler, theirs.context(NAME), hooks) as (client, _):
        status, _, body = await client.ask(a_get())
    assert status == 502 and "encoded in a way" in json.loads(body)["error"]["message"]


async def test_a_redirect_to_another_site_carries_no_value(inspector, ours, theirs):
    one = a_secret()
    redirect = b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/?t=" + quote(VALUE, safe="").encode()
    hooks = PeerHooks(given=[one])
    handler = answering(redirect + b"\r\nContent-Length: 0\r\n\r\n")
    async with through(inspector, ours, handler, theirs.context(NAME), hooks) as (client, _):
        _, head, _ = await client.ask(a_get("/", f"Authorization: {one.placeholder}"))
    assert b"Location: https://evil.example/?t=[secret TOKEN]" in head


async def test_a_websocket_that_sends_a_value_back(inspector, ours, theirs):
    one = a_secret()

    async def handler(reader, writer):
        head, _ = await read_request(reader)
        assert VALUE.encode() in head
        writer.write(
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x13" + VALUE.encode()
        )
        await writer.drain()
        await reader.read()

    async with through(inspector, ours, handler, theirs.context(NAME), PeerHooks(given=[one])) as (client, _):
        compressed = "Sec-WebSocket-Extensions: permessage-deflate"
        upgrade = a_get("/", "Upgrade: websocket", "Connection: Upgrade", f"A: {one.placeholder}", compressed)
        assert (await client.ask(upgrade, False))[0] == 101
        frame = await client.reader.readexactly(2 + len(VALUE))
        assert frame[:2] == b"\x81\x13" and VALUE.encode() not in frame


async def test_an_answer_that_is_cut_off_does_not_look_complete(inspector, ours, theirs):
    """Without a length only TLS says where an answer ends, and that must not be forged."""

    async def handler(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfirst half")
        await writer.drain()
        writer.transport.abort()

    async with through(inspector, ours, handler, theirs.context(NAME)) as (client, hooks):
        await client.say(a_get())
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await client.reader.read()
    assert hooks.records[0].verdict == "failed"
