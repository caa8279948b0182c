"""Published ports of a real sandbox: by URL, by address, before anything listens, and over its whole life."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import textwrap
from urllib.parse import urlsplit

import pytest

from cloche import NotFoundError, Sandbox

#: PUT gives back what it got, upside down; GET tells what it heard; an upgrade becomes an echo
SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers["Upgrade"]:
            self.send_response(101); self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", self.headers["Upgrade"]); self.end_headers()
            while data := self.rfile.read1(65536):
                self.wfile.write(data)
            self.close_connection = True
            return
        self.say(json.dumps({"path": self.path, "headers": dict(self.headers)}).encode())
    def do_PUT(self):
        self.say(self.rfile.read(int(self.headers["Content-Length"]))[::-1])
    def say(self, body):
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""


def serve(box: Sandbox, port: int) -> None:
    process = box.spawn("python3", "-c", textwrap.dedent(SERVER), str(port))
    assert next(process.stdout) == b"ready\n"


def ask(url: str, method: str = "GET", path: str = "/", body: bytes | None = None, **headers: str):
    """As a browser does it: the name leads to this machine, and goes into Host."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=30)
    try:
        connection.request(method, path, body, {"Host": place.netloc, **headers})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def serving(real_home):
    with Sandbox.create() as made:
        serve(made, 8000)
        yield made


def test_a_url_leads_to_the_server(serving):
    published = serving.publish(8000)
    assert serving.publish(8000) == published
    status, _, body = ask(published.url, path="/a?b=c")
    heard = json.loads(body)
    assert (status, heard["path"], heard["headers"]["Host"]) == (200, "/a?b=c", urlsplit(published.url).netloc)
    assert heard["headers"]["X-Forwarded-Proto"] == "http"
    assert ask(published.url, Host="localhost")[0] == ask(published.url, Host="evil.example")[0] == 404


def test_large_bodies_pass(serving):
    published, body = serving.publish(8000), hashlib.sha256(b"seed").digest() * (1 << 20)
    assert ask(published.url, "PUT", body=body)[2] == body[::-1]


def test_websockets_pass_by_name(serving):
    place = urlsplit(serving.publish(8000).url)
    with socket.create_connection(("127.0.0.1", place.port), 30) as sock:
        sock.sendall(
            f"GET / HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
        )
        heard = b""
        while not heard.endswith(b"\r\n\r\n"):
            heard += sock.recv(65536)
        assert heard.startswith(b"HTTP/1.1 101 ")
        sock.sendall(b"frame")
        assert sock.recv(65536) == b"frame"


def test_an_address_leads_to_the_server_with_any_protocol(serving):
    host, port = serving.publish(8000).address.split(":")
    with socket.create_connection((host, int(port)), 30) as sock:
        sock.sendall(b"GET /raw HTTP/1.0\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        heard = b""
        while data := sock.recv(65536):
            heard += data
    assert b'"/raw"' in heard


def test_a_port_may_be_published_before_anything_listens(sandbox):
    published = sandbox.publish(9000)
    status, headers, body = ask(published.url, Accept="text/html")
    assert (status, headers["Retry-After"], b"port 9000" in body) == (502, "1", True)
    serve(sandbox, 9000)
    assert ask(published.url)[0] == 200


def test_a_url_stays_the_same_while_the_sandbox_stops_and_starts(sandbox):
    published = sandbox.publish(8000)
    serve(sandbox, 8000)
    assert ask(published.url)[0] == 200
    sandbox.stop(grace_seconds=0.5)
    status, _, body = ask(published.url, Accept="application/json")
    assert (status, json.loads(body)["error"]["code"]) == (503, "not_running")
    sandbox.start()
    assert sandbox.publications() == [published]
    serve(sandbox, 8000)
    assert ask(published.url)[0] == 200
    with socket.create_connection(("127.0.0.1", int(published.address.split(":")[1])), 30):
        pass


def test_what_is_unpublished_is_gone(sandbox):
    published = sandbox.publish(8000)
    serve(sandbox, 8000)
    sandbox.unpublish(8000)
    assert ask(published.url)[0] == 404
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(published.address.split(":")[1])), 30)
    with pytest.raises(NotFoundError):
        sandbox.unpublish(8000)
