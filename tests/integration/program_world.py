"""Hosts on loopback that real programs in sandboxes talk to: nginx with several names, an authority of its own, and a
DNS server. What is here does not know which engine the sandboxes have."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.dns_server import DnsServer
from tests.integration.door_world import Certificates, certificates

#: TLS is passed through, or ended by the door; nobody may reach the third; of the last only /open/ may be read
PASSED, INSPECTED, DENIED, PARTLY = "passed.example", "inspected.example", "denied.example", "partly.example"
HOSTS = (PASSED, INSPECTED, DENIED, PARTLY)
BIG_BYTES = 8 << 20
PATIENCE_SECONDS = 20
HERE = "@127.0.0.0/8"

_SITE = """
daemon off; {user} worker_processes 1; pid {place}/nginx.pid; error_log {place}/error.log; worker_rlimit_nofile 1024;
events {{ worker_connections 512; }}
http {{
  access_log off; default_type application/octet-stream; types {{ text/html html; application/json json; }}
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi; client_max_body_size 64m;
  gzip on; gzip_types *; gzip_min_length 1; ssl_session_cache off;
  {servers}
}}
"""
_SERVER = """
  server {{
    listen 127.0.0.1:{port}{options}; server_name {name}; root {place}/files; {certificate}
    location = /hello {{ return 200 "hello from $host over $scheme\\n"; }}
    location = /echo {{ proxy_pass http://127.0.0.1:{plain}/said; }}
    location = /said {{ return 200 "$request_method $content_length\\n"; }}
  }}
"""


@dataclass(frozen=True)
class World:
    """`plain` and `tls` are ports of 127.0.0.1 where every host is; `files`: what they show. `settings`: of a node."""

    plain: int
    tls: int
    files: Path
    names: DnsServer
    authority: Certificates

    @property
    def settings(self) -> dict[str, str]:
        return {"CLOCHE_DNS": self.names.address, "CLOCHE_UPSTREAM_CA": self.authority.file}

    @property
    def net(self) -> str:
        ports = f"{self.plain}+{self.tls}"
        rules = [f"{PASSED}:{ports}{HERE}", f"{INSPECTED}:{ports}{HERE} inspect"]
        partly = {"hosts": [PARTLY], "ports": [str(self.tls)], "paths": ["/open/**"], "addresses": ["127.0.0.0/8"]}
        return ",".join([*rules, json.dumps({**partly, "tls": "inspect"})])

    def url(self, name: str, scheme: str = "http", path: str = "/hello") -> str:
        return f"{scheme}://{name}:{self.plain if scheme == 'http' else self.tls}{path}"


@contextlib.contextmanager
def program_world(place: Path) -> Iterator[World]:
    """Skips where nginx is missing."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    (place / "files" / "open").mkdir(parents=True)
    (place / "files" / "open" / "page.json").write_text('{"open": true}\n')
    (place / "files" / "big").write_bytes(os.urandom(1 << 20) * (BIG_BYTES >> 20))
    names = DnsServer()
    try:
        for host in HOSTS:
            names.add(host, "127.0.0.1")
        with certificates() as authority, listening() as plain, listening() as tls:
            world = World(plain.getsockname()[1], tls.getsockname()[1], place / "files", names, authority)
            (place / "nginx.conf").write_text(configuration(world, place))
            with running(nginx, place, plain, tls):
                yield world
    finally:
        names.close()


def configuration(world: World, place: Path) -> str:
    servers = _server(world, place, "_", "") + "".join(
        _server(world, place, name, certificate(world.authority, name)) for name in HOSTS
    )
    # an ordinary user's is that user anyway, and says so in its log
    user = "user root;" if os.geteuid() == 0 else ""
    return _SITE.format(place=place, servers=servers, user=user)


def certificate(authority: Certificates, name: str) -> str:
    authority.server(name)
    file = Path(authority.file).with_name(f"{name}.pem")
    return f"ssl_certificate {file}; ssl_certificate_key {file};"


def _server(world: World, place: Path, name: str, certificate: str) -> str:
    port, options = (world.tls, " ssl") if certificate else (world.plain, "")
    return _SERVER.format(
        place=place, port=port, options=options, name=name, certificate=certificate, plain=world.plain
    )


def listening() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def running(nginx: str, place: Path, *sockets: socket.socket) -> Iterator[None]:
    """It takes the sockets over, which listen already: there is nothing to wait for."""
    numbers = [sock.fileno() for sock in sockets]
    environment = {"NGINX": "".join(f"{number};" for number in numbers), "PATH": os.defpath}
    argv = [nginx, "-c", str(place / "nginx.conf"), "-p", str(place), "-e", str(place / "error.log")]
    process = subprocess.Popen(argv, env=environment, pass_fds=numbers, stdin=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None, (place / "error.log").read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
