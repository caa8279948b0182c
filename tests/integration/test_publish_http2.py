"""HTTP/2 without TLS to a published port by its name, from curl to nginx in a sandbox, and by a client that waits for
the server before it asks, as those of gRPC do. (curl 7.88 cannot use such a connection twice, whoever it talks to.)"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cloche import Sandbox
from tests.unit.egress.inward.http2_world import HELLO, NOTED, block, headers

CURL = shutil.which("curl")
NGINX = next((path for path in ("/usr/sbin/nginx", "/usr/bin/nginx") if Path(path).exists()), None)
PLACE = "/home/user/web"
SIZE = 40 << 20
CONFIGURATION = f"""
daemon off; worker_processes 1; pid {PLACE}/pid; error_log stderr;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {PLACE}/b; proxy_temp_path {PLACE}/p; fastcgi_temp_path {PLACE}/f;
  uwsgi_temp_path {PLACE}/u; scgi_temp_path {PLACE}/s; client_max_body_size 1g;
  server {{ listen 127.0.0.1:8000 http2; location / {{ root {PLACE}; }}
            location /host {{ return 200 $http_host$server_protocol; }} }} }}
"""

pytestmark = [
    pytest.mark.skipif(CURL is None, reason="curl is not installed: apt-get install curl"),
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light"),
]


@pytest.fixture(scope="module")
def url(real_home) -> Iterator[str]:
    with Sandbox.create() as box:
        box.files.write(f"{PLACE}/index.html", "inside\n")
        box.files.write(f"{PLACE}/nginx.conf", CONFIGURATION)
        assert box.exec("truncate", "-s", str(SIZE), f"{PLACE}/large").ok
        box.spawn(str(NGINX), "-c", f"{PLACE}/nginx.conf", "-p", PLACE)
        box.exec("sh", "-c", "until curl -so /dev/null --http2-prior-knowledge http://127.0.0.1:8000/; do :; done")
        yield box.publish(8000).url


def curl(*words: str) -> str:
    """What it prints, and behind it the version and the status."""
    options = ["-sS", "--max-time", "60", "-w", " %{http_version} %{http_code} %{size_download}"]
    done = subprocess.run([str(CURL), *options, *words], capture_output=True, text=True, timeout=90, check=True)
    return done.stdout


def test_curl_reaches_a_server_that_speaks_only_http_2(url):
    assert curl("--http2-prior-knowledge", f"{url}/") == "inside\n 2 200 7"
    assert curl("--http2-prior-knowledge", f"{url}/host").split()[:3] == [f"{urlsplit(url).netloc}HTTP/2.0", "2", "200"]


def test_large_answers_pass(url):
    assert curl("--http2-prior-knowledge", "-o", "/dev/null", f"{url}/large").split() == ["2", "200", str(SIZE)]


def test_who_waits_for_the_server_first_is_served_and_may_ask_often(url):
    place, streams = urlsplit(url), range(1, 60, 2)
    with socket.create_connection(("127.0.0.1", place.port), 30) as sock, sock.makefile("rb") as heard:
        sock.sendall(HELLO)
        assert heard.read(9) == b"\0\0\0\4\0\0\0\0\0"
        sock.sendall(NOTED + b"".join(headers(block(place.netloc), stream_id=stream) for stream in streams))
        bodies: dict[int, bytes] = {}
        while len(bodies) < len(streams):
            head = heard.read(9)
            payload = heard.read(int.from_bytes(head[:3], "big"))
            assert head[3] != 7, payload
            if head[3] == 4 and not head[4]:
                sock.sendall(NOTED)
            if head[3] == 0:
                bodies[int.from_bytes(head[5:], "big")] = payload
    assert bodies == dict.fromkeys(streams, b"inside\n")


def test_a_name_that_leads_here_is_not_enough(url):
    port = urlsplit(url).port
    said = curl("--http2-prior-knowledge", "-H", "Host: rebound.example", f"http://127.0.0.1:{port}/")
    assert said.split()[-3:-1] == ["2", "404"]
