"""Programs that speak neither HTTP nor, at first, TLS: to a port that is allowed by its number they come through the
redirect, whoever speaks first, and nothing of what they say is looked at."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.dns_server import dns_server
from tests.integration.door_world import Certificates, Upstream, certificates, upstream
from tests.integration.program_boxes import need, node_of, told
from tests.integration.program_world import HERE

HOST = "tcp.example"
AUTHORITY = "/tmp/upstream.pem"
#: nothing listens there, and no rule names it
CLOSED = 9
CONTENT = b"kept\n" * 1000
_SMTP = """
import smtplib, ssl, sys
with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=30) as client:
    print(client.ehlo()[0], client.starttls(context=ssl.create_default_context())[0], client.noop()[0])
"""

pytestmark = pytest.mark.timeout(120)


def mail(certificate: Certificates) -> object:
    """Just enough of SMTP, and TLS in the middle of it."""
    context = certificate.server(HOST)

    def talk(sock: socket.socket, _: Upstream) -> None:
        sock.sendall(b"220 it speaks first\r\n")
        while line := sock.recv(4096):
            if line.startswith(b"STARTTLS"):
                sock.sendall(b"220 go on\r\n")
                sock = context.wrap_socket(sock, server_side=True)
            elif line.startswith(b"QUIT"):
                sock.sendall(b"221 bye\r\n")
                return
            else:
                sock.sendall(b"250-here\r\n250 STARTTLS\r\n")

    return talk


def daemon(*argv: str) -> object:
    """One that serves the connection that it is given as its standard input and output, as inetd does."""

    def talk(sock: socket.socket, _: Upstream) -> None:
        sock.settimeout(None)
        subprocess.run(argv, stdin=sock, stdout=sock, stderr=subprocess.DEVNULL, timeout=60)

    return talk


def served_files(place: Path) -> Path:
    """A directory for rsync with its configuration beside it."""
    (place / "files").mkdir()
    (place / "files" / "note").write_bytes(CONTENT)
    (place / "rsyncd.conf").write_text(f"[files]\npath = {place}/files\nuse chroot = no\n")
    return place / "rsyncd.conf"


def repository(place: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "-C", str(place / "repo")]
    subprocess.run(["git", "init", "-q", str(place / "repo")], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a first one"], check=True)


@pytest.fixture(scope="module")
def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sandbox, dict[str, int]]]:
    place = tmp_path_factory.mktemp("served")
    with contextlib.ExitStack() as last:
        names, authority = last.enter_context(dns_server()), last.enter_context(certificates())
        names.add(HOST, "127.0.0.1")
        talks = {"mail": mail(authority)}
        if shutil.which("rsync"):
            talks["rsync"] = daemon("rsync", "--daemon", f"--config={served_files(place)}")
        if shutil.which("git"):
            repository(place)
            safe = ("-c", "safe.directory=*")
            talks["git"] = daemon("git", *safe, "daemon", "--inetd", "--export-all", f"--base-path={place}", str(place))
        ports = {name: last.enter_context(upstream(talk)).port for name, talk in talks.items()}  # type: ignore[arg-type]
        home = tmp_path_factory.mktemp("node") / "home"
        create = last.enter_context(node_of("namespace", request, home, CLOCHE_DNS=names.address))
        made = last.enter_context(create(net=f"{HOST}:{'+'.join(map(str, ports.values()))}{HERE}"))
        made.files.write(AUTHORITY, Path(authority.file).read_bytes())
        yield made, ports


def test_tls_may_begin_in_the_middle(box: tuple[Sandbox, dict[str, int]]) -> None:
    sandbox, ports = box
    trust = {"SSL_CERT_FILE": AUTHORITY}
    done = told(sandbox, "redirect", "python3", "-c", _SMTP, HOST, str(ports["mail"]), **trust)
    assert done.stdout == "250 220 250\n", done.stderr
    need(sandbox, "openssl")
    argv = ("openssl", "s_client", "-starttls", "smtp", "-connect", f"{HOST}:{ports['mail']}", "-CAfile", AUTHORITY)
    done = told(sandbox, "redirect", "sh", "-c", '"$@" </dev/null', "sh", *argv)
    assert "Verify return code: 0 (ok)" in done.stdout, done.stderr


def test_curl_as_telnet(box: tuple[Sandbox, dict[str, int]]) -> None:
    sandbox, ports = box
    need(sandbox, "curl")
    talk = ("sh", "-c", 'printf "QUIT\\r\\n" | curl -sS -m 30 "$1"', "sh")
    done = told(sandbox, "redirect", *talk, f"telnet://{HOST}:{ports['mail']}")
    assert done.stdout == "220 it speaks first\r\n221 bye\r\n", done.stderr
    refused = told(sandbox, "redirect", *talk, f"telnet://{HOST}:{CLOSED}")
    assert (refused.stdout, refused.exit_code) == ("", 56), refused.stderr


def test_rsync(box: tuple[Sandbox, dict[str, int]]) -> None:
    sandbox, ports = box
    need(sandbox, "rsync")
    done = told(sandbox, "redirect", "rsync", f"rsync://{HOST}:{ports['rsync']}/files/note", "/tmp/note")
    assert done.exit_code == 0, done.stderr
    assert sandbox.files.read("/tmp/note").encode() == CONTENT
    refused = told(sandbox, "redirect", "rsync", f"rsync://{HOST}:{CLOSED}/files/note", "/tmp/none")
    assert refused.exit_code == 12 and "reset" in refused.stderr


def test_git_and_its_own_protocol(box: tuple[Sandbox, dict[str, int]]) -> None:
    sandbox, ports = box
    need(sandbox, "git")
    clone = ("git", "clone", "-q")
    done = told(sandbox, "redirect", *clone, f"git://{HOST}:{ports['git']}/repo", "/tmp/clone")
    assert done.exit_code == 0, done.stderr
    assert sandbox.exec("git", "-C", "/tmp/clone", "log", "--format=%s").stdout == "a first one\n"
    refused = told(sandbox, "redirect", *clone, f"git://{HOST}:{CLOSED}/repo", "/tmp/none")
    assert refused.exit_code == 128 and "reset" in refused.stderr, refused.stderr
