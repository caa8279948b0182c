"""A site and code inside that both try to get a secret's value out: for tests of secrets through the whole door."""

from __future__ import annotations

import base64
import contextlib
import queue
import socket
import ssl

from tests.integration.door_guest import DoorProcess, GuestStream, StandInGuest
from tests.integration.door_world import Tls, Upstream

PLACEHOLDER = "cloche-secret-" + "0123456789abcdef" * 2
BASIC = base64.b64encode(PLACEHOLDER.encode()).decode()
OTHERS = "cloche-secret-" + "f" * 32
VALUE = 'v4lue"with/odd+chars=='
SECRET = VALUE.encode()


class Site(Upstream):
    """A TLS server: remembers what it got, and gives `answer` with VALUE in place of @@ to each request."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.heads: queue.Queue[bytes] = queue.Queue()
        self.got = b""
        self.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]
        self._context = context
        super().__init__(self._talk_tls)

    def _talk_tls(self, sock: socket.socket, _: Upstream) -> None:
        with self._context.wrap_socket(sock, server_side=True) as secured:
            self.keep(secured)
            while data := secured.recv(65536):
                self.got += data
                if b"\r\n\r\n" in data:
                    self.heads.put(data)
                    for piece in self.answer:
                        secured.sendall(piece)
                    if b"Connection: close" in self.answer[0]:
                        return


class Code:
    """A TLS client in the sandbox."""

    def __init__(self, door: DoorProcess, guest: StandInGuest, site: Site, host: str = "up.test") -> None:
        self.stream: GuestStream = guest.connect(host, site.port)
        context = ssl.create_default_context(cadata=door.ready.authority_pem)
        self.tls = Tls(context, host, self._say)
        assert self.stream.answer() == {"ok": True}
        self.tls.finish(self.stream.socket)

    def _say(self, data: bytes) -> None:
        """The door may have said all that it will, and have gone."""
        with contextlib.suppress(BrokenPipeError):
            self.stream.socket.sendall(data)

    def ask(self, data: bytes) -> bytes:
        """Until it ends."""
        answer = b""
        try:
            while piece := self.tls.ask(self.stream.socket, b"" if answer else data):
                answer += piece
        except (EOFError, OSError):
            pass
        self.stream.close()
        return answer


def request(site: Site, *headers: str, line: str = "GET / HTTP/1.1", host: str = "up.test", body: bytes = b"") -> bytes:
    ends = [] if any(header.startswith("Connection") for header in headers) else ["Connection: close"]
    return "\r\n".join([line, f"Host: {host}:{site.port}", *headers, *ends, "", ""]).encode() + body
