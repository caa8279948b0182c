"""Ends the TLS of a client with the node's authority, speaks verified TLS to the site, and carries the requests.

The client is answered first, with a certificate for the name that was allowed; the site is dialled when a request has
been decided. So what is wrong with the site's certificate reaches the code as an answer that it can read."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from pathlib import Path

from cloche.channel.base import ByteStream
from cloche.egress.deciding.names import is_address, read_host
from cloche.egress.hooks import DialError, Exchange, Hooks, LimitHit, Site
from cloche.egress.http.flow import serve_requests
from cloche.egress.http.refusal import tls_alert
from cloche.egress.http.site_side import Connect
from cloche.egress.tls.authority import SPOKEN_INSIDE, Authority
from cloche.egress.tls.sni import BadHelloError, ClientHello, NeedMore, NotTls
from cloche.egress.tls.tls_stream import HANDSHAKE_SECONDS, READ_BYTES, TlsStream
from cloche.model.egress import Decision

#: the alert no_application_protocol
_NO_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"


class HelloRefusedError(Exception):
    """The client's hello asks for something that is not to be had; `alert`: how it is told."""

    def __init__(self, reason: str, alert: bytes) -> None:
        super().__init__(reason)
        self.alert = alert


class Inspector:
    """One for the door. `upstream_authorities`: a PEM file to trust beside the machine's. Raises OSError or
    ssl.SSLError when that cannot be read."""

    def __init__(self, authority: Authority, upstream_authorities: str | Path | None = None) -> None:
        self.authority = authority
        self._upstream = upstream_context(upstream_authorities)

    async def inspect_tls(self, client: ByteStream, site: Site, hooks: Hooks, first: bytes = b"") -> None:
        """`first`: what was read of the client's hello. Closes `client`. Raises as serve_requests does; a handshake
        that the client does not finish (it does not trust the authority) is recorded as failed."""
        site = Site(site.host, site.port, "https")
        try:
            tls = await self._answer(client, site, hooks, first)
        except (HelloRefusedError, LimitHit, ConnectionError, TimeoutError, ssl.SSLError, ValueError) as error:
            await _give_up(client, site, hooks, error)
        except BaseException:
            await client.close()
            raise
        else:
            await serve_requests(tls, site, hooks, connect=self._connecting(hooks))

    async def _answer(self, client: ByteStream, site: Site, hooks: Hooks, first: bytes) -> TlsStream:
        first = await _whole_hello(client, site, first)
        hooks.hold(len(first))
        async with hooks.handshake(lambda: not self.authority.is_known(site.host)):
            hooks.hold(0)
            tls = TlsStream(client, self.authority.context(site.host))
            await tls.handshake(first)
        return tls

    def _connecting(self, hooks: Hooks) -> Connect:
        async def connect(site: Site) -> ByteStream:
            stream = await hooks.dial(site.host, site.port)
            return await connect_tls(stream, site, self._upstream)

        return connect


def upstream_context(more: str | Path | None = None) -> ssl.SSLContext:
    """For sites: certificates and names are verified by the machine's authorities, and those in the PEM file `more`.
    Raises OSError or ssl.SSLError for a file that cannot be read."""
    # not create_default_context: that writes the keys of every connection to the file in SSLKEYLOGFILE
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    if more is not None:
        context.load_verify_locations(more)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


async def connect_tls(stream: ByteStream, site: Site, context: ssl.SSLContext) -> TlsStream:
    """Closes the stream when it raises DialError."""
    try:
        tls = TlsStream(stream, context, server_hostname=site.host)
        await tls.handshake()
    except BaseException as error:
        await stream.close()
        reason = _upstream_reason(error)
        if reason is None:
            raise
        raise DialError(reason) from error
    return tls


def _upstream_reason(error: BaseException) -> str | None:
    """None: it is no failure of the handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS with it failed: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return f"TLS with it did not begin in {HANDSHAKE_SECONDS:.0f} s"
    if isinstance(error, ConnectionError | ValueError):
        return f"TLS with it failed: {error}"
    return None


async def _whole_hello(client: ByteStream, site: Site, data: bytes) -> bytes:
    """The hello's bytes, and what came behind them. Raises HelloRefusedError, ConnectionError or TimeoutError."""
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        while isinstance(hello := _parsed(data), NeedMore):
            more = await client.read(READ_BYTES)
            if not more:
                raise ConnectionResetError("the client ended in its hello")
            data += more
    _check(hello, site)
    return data


def _parsed(data: bytes) -> ClientHello | NeedMore:
    try:
        hello = ClientHello.parse(data)
    except BadHelloError as error:
        raise HelloRefusedError(f"no hello: {error}", tls_alert("handshake_failure")) from error
    if isinstance(hello, NotTls):
        raise HelloRefusedError("the client does not speak TLS", b"")
    return hello


def _check(hello: ClientHello, site: Site) -> None:
    if hello.sni is None and not is_address(site.host):
        raise HelloRefusedError("the TLS hello names no host (no SNI)", tls_alert("access_denied"))
    if hello.sni is not None and not _names(hello.sni, site.host):
        raise HelloRefusedError(f"the TLS hello names another host ({hello.sni})", tls_alert("unrecognized_name"))
    if hello.alpn and not set(SPOKEN_INSIDE) & set(hello.alpn):
        # OpenSSL would go on as if nothing had been asked
        raise HelloRefusedError(f"the client speaks {_some(hello.alpn)} only, the door HTTP/1.1", _NO_PROTOCOL)


def _some(protocols: tuple[str, ...]) -> str:
    """They may fill a whole hello, and the log has room for what people read."""
    return ", ".join(protocols[:8])[:100]


def _names(sni: str, host: str) -> bool:
    try:
        return read_host(sni).text == host
    except ValueError:
        return False


async def _give_up(client: ByteStream, site: Site, hooks: Hooks, error: Exception) -> None:
    exchange = Exchange(site=site, verdict="failed", reason=_client_reason(error), began=time.time())
    if isinstance(error, HelloRefusedError):
        exchange.verdict = "denied"
        exchange.decision = Decision(action="deny", rule="TLS hello", reason=str(error), tls="inspect")
        with contextlib.suppress(ConnectionError):
            await client.write(error.alert)
    if isinstance(error, LimitHit):
        exchange.verdict, exchange.reason = "limit", error.reason
        exchange.decision = Decision(action="deny", rule=f"budget {error.limit}", reason=error.reason, tls="inspect")
        with contextlib.suppress(ConnectionError):
            await client.write(tls_alert("internal_error"))
    hooks.record(exchange)
    await client.close()


def _client_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        # some libraries say why they end a handshake, and some only end it
        if any(sign in reason for sign in ("UNKNOWN_CA", "CERTIFICATE", "EOF")):
            return f"the client does not trust the door's certificate ({reason}): it may have a list of its own"
        return f"TLS with the client failed: {reason}"
    if isinstance(error, TimeoutError):
        return f"the client did not finish its TLS hello in {HANDSHAKE_SECONDS:.0f} s"
    return f"TLS with the client failed: {error}"
