"""A WebSocket client through the door: plain and over TLS, whose requests the door sees or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.dns_server import dns_server
from tests.integration.door_world import certificates
from tests.integration.program_boxes import WAYS, node_of, told
from tests.integration.program_servers import websocket_server
from tests.integration.program_world import DENIED, HERE, INSPECTED, PASSED

AUTHORITY = "/tmp/upstream.pem"
#: python3 CLIENT scheme host port proxied: sends text, 40 kB and a close, and says what came back
CLIENT = """
import os, socket, ssl, sys
scheme, host, port, way = sys.argv[1:]
def head(stream):
    data = b""
    while not data.endswith(b"\\r\\n\\r\\n"):
        piece = stream.recv(1)
        if not piece: break
        data += piece
    return data
def exactly(count):
    data = b""
    while len(data) < count: data += stream.recv(count - len(data)) or sys.exit("cut")
    return data
if way == "proxy":
    proxy = os.environ["HTTPS_PROXY"].rpartition("/")[2].split(":")
    stream = socket.create_connection((proxy[0], int(proxy[1])), 60)
    stream.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
    answer = head(stream)
    if b" 200 " not in answer: sys.exit(answer.decode().splitlines()[0])
else:
    stream = socket.create_connection((host, int(port)), 60)
if scheme == "wss":
    stream = ssl.create_default_context().wrap_socket(stream, server_hostname=host)
stream.sendall(f"GET /chat HTTP/1.1\\r\\nHost: {host}:{port}\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
               "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n".encode())
answer = head(stream).decode()
print(answer.splitlines()[0])
assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
for kind, data in ((1, b"hello"), (2, os.urandom(40000)), (8, b"")):
    mask = os.urandom(4)
    size = bytes([128 | len(data)]) if len(data) < 126 else b"\\xfe" + len(data).to_bytes(2, "big")
    stream.sendall(bytes([128 | kind]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
    first, length = exactly(2)
    if length == 126: length = int.from_bytes(exactly(2), "big")
    print(kind, first & 15, exactly(length) == data)
print("end", stream.recv(1))
"""
SAID = "HTTP/1.1 101 Switching Protocols\n1 1 True\n2 2 True\n8 8 True\nend b''\n"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sandbox, dict[str, int]]]:
    home = tmp_path_factory.mktemp("node") / "home"
    with (
        dns_server() as names,
        certificates() as authority,
        websocket_server(None) as plain,
        websocket_server(authority.server(PASSED, INSPECTED)) as tls,
        node_of("namespace", request, home, CLOCHE_DNS=names.address, CLOCHE_UPSTREAM_CA=authority.file) as create,
    ):
        for host in (PASSED, INSPECTED, DENIED):
            names.add(host, "127.0.0.1")
        net = f"{PASSED}:{plain}+{tls}{HERE},{INSPECTED}:{plain}+{tls}{HERE} inspect"
        with create(net=net) as made:
            made.files.write(AUTHORITY, Path(authority.file).read_bytes())
            yield made, {"ws": plain, "wss": tls}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", [PASSED, INSPECTED])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_frames_go_both_ways(box: tuple[Sandbox, dict[str, int]], scheme: str, host: str, way: str) -> None:
    sandbox, ports = box
    env = {"SSL_CERT_FILE": AUTHORITY} if (scheme, host) == ("wss", PASSED) else {}
    # it reads the proxy's variable itself
    done = sandbox.exec("python3", "-c", CLIENT, scheme, host, str(ports[scheme]), way, env=env, timeout_seconds=60)
    assert done.stdout == SAID, done.stderr


def test_a_host_that_is_not_allowed(box: tuple[Sandbox, dict[str, int]]) -> None:
    sandbox, ports = box
    argv = ("python3", "-c", CLIENT, "wss", DENIED, str(ports["wss"]))
    assert "403" in told(sandbox, "proxy", *argv, "proxy").stderr
    assert "gaierror" in told(sandbox, "redirect", *argv, "redirect").stderr
