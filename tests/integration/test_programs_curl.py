"""What curl and OpenSSL do to the door beyond a plain fetch: big files, ranges, uploads, SOCKS, names that lie, and
what they say when they are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.program_boxes import BOXES, WAYS, need, node_of, told
from tests.integration.program_world import BIG_BYTES, DENIED, INSPECTED, PASSED, World, program_world

AUTHORITY = "/tmp/upstream.pem"
CURL = ("curl", "-sS", "-m", "80")
UPLOAD_BYTES = 3 << 20
#: TLS that is passed through, and such that the door ends
TLS_HOSTS = (PASSED, INSPECTED)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with program_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module", params=BOXES)
def box(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    home = tmp_path_factory.mktemp("node") / "home"
    with node_of(request.param, request, home, **world.settings) as create, create(net=world.net) as made:
        need(made, "curl", "openssl")
        made.files.write(AUTHORITY, Path(world.authority.file).read_bytes())
        yield made


def curl(box: Sandbox, way: str, *argv: str):
    """The upstream's authority is trusted for the host whose TLS is passed through, and for no other."""
    passed = any(f"https://{PASSED}" in each for each in argv)
    return told(box, way, *CURL, *argv, **({"CURL_CA_BUNDLE": AUTHORITY} if passed else {}))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", TLS_HOSTS)
class TestTransfers:
    def test_big_files_arrive_whole(self, box, world, host, way):
        done = curl(
            box, way, world.url(host, "https", "/big"), world.url(host, "http", "/big"), "-o", "/tmp/1", "-o/tmp/2"
        )
        assert done.exit_code == 0, done.stderr
        expected = hashlib.sha256((world.files / "big").read_bytes()).hexdigest()
        sums = box.exec("sha256sum", "/tmp/1", "/tmp/2", timeout_seconds=60).stdout.split()[::2]
        assert sums == [expected, expected]

    def test_parts_of_a_file(self, box, world, host, way):
        done = curl(box, way, "-r", "5-9", world.url(host, "https", "/big"))
        assert done.stdout_bytes == (world.files / "big").read_bytes()[5:10]
        headers = curl(box, way, "-r", "5-9", "-D-", "-o", "/dev/null", world.url(host, "https", "/big")).stdout
        assert f"content-range: bytes 5-9/{BIG_BYTES}" in headers.lower()

    def test_what_is_packed_is_unpacked(self, box, world, host, way):
        done = curl(box, way, "--compressed", "-D/tmp/head", world.url(host, "https"))
        assert done.stdout == f"hello from {host} over https\n"
        assert "content-encoding: gzip" in box.files.read("/tmp/head").lower()

    def test_uploads(self, box, world, host, way):
        url = world.url(host, "https", "/echo")
        box.exec("sh", "-c", f"head -c {UPLOAD_BYTES} /dev/zero > /tmp/upload")
        known = curl(box, way, "--data-binary", "@/tmp/upload", url)
        # no length: in chunks, which nginx collects before it hands them on
        chunked = curl(box, way, "--data-binary", "@/tmp/upload", "-H", "Transfer-Encoding: chunked", url)
        assert (known.stdout, chunked.stdout) == (f"POST {UPLOAD_BYTES}\n", f"POST {UPLOAD_BYTES}\n"), known.stderr

    def test_an_old_version_of_http(self, box, world, host, way):
        done = curl(box, way, "--http1.0", world.url(host, "https"), world.url(host, "http"))
        assert done.stdout == f"hello from {host} over https\nhello from {host} over http\n", done.stderr

    def test_several_on_one_connection(self, box, world, host, way):
        done = curl(box, way, "-w", "%{num_connects} ", *[world.url(host, "https")] * 3)
        assert done.stdout.replace(f"hello from {host} over https\n", "").split() == ["1", "0", "0"]


class TestRefusals:
    def test_a_name_that_may_not_be_known(self, box, world):
        for scheme in ("http", "https"):
            done = curl(box, "redirect", world.url(DENIED, scheme))
            assert (done.exit_code, done.stdout) == (6, "")
            assert "Could not resolve host" in done.stderr

    def test_a_tunnel_of_the_proxy(self, box, world):
        done = curl(box, "proxy", world.url(DENIED, "https"))
        assert (done.exit_code, done.stdout) == (56, "")
        assert "CONNECT tunnel failed, response 403" in done.stderr

    @pytest.mark.parametrize("way", WAYS)
    def test_a_port_that_is_not_allowed_tells_why(self, box, world, way):
        done = curl(box, way, f"http://{PASSED}:1/page")
        error = json.loads(done.stdout)["error"]
        assert (error["code"], error["host"], error["port"]) == ("egress_denied", PASSED, 1)
        assert error["remedy"].endswith(f"{PASSED}:1")

    def test_tls_to_such_a_port_is_an_alert(self, box, world):
        done = curl(box, "redirect", f"https://{PASSED}:1/")
        assert done.exit_code == 35
        assert "alert access denied" in done.stderr

    def test_an_address_in_place_of_a_name(self, box, world):
        done = curl(box, "redirect", f"http://127.0.0.2:{world.plain}/hello")
        assert done.exit_code == 7
        done = curl(box, "redirect", f"http://10.1.2.3:{world.plain}/hello")
        assert json.loads(done.stdout)["error"]["code"] == "egress_denied"


class TestSocks:
    @pytest.mark.parametrize("host", TLS_HOSTS)
    def test_names_are_looked_up_outside(self, box, world, host):
        socks = ("--socks5-hostname", "127.0.0.1:15081")
        assert curl(box, "redirect", *socks, world.url(host, "https")).stdout == f"hello from {host} over https\n"
        done = curl(box, "redirect", *socks, world.url(DENIED))
        assert done.exit_code == 97
        assert f"SOCKS5 connection to {DENIED}. (2)" in done.stderr


class TestOpenSsl:
    def client(self, box, world, host, *more):
        argv = ("openssl", "s_client", "-connect", f"{host}:{world.tls}", "-verify_return_error", "-brief", *more)
        trust = {"SSL_CERT_FILE": AUTHORITY} if host == PASSED else {}
        done = told(box, "redirect", "sh", "-c", '"$@" 2>&1 </dev/null', "sh", *argv, **trust)
        return done.stdout

    def test_who_has_signed(self, box, world):
        assert "Verification: OK" in self.client(box, world, PASSED)
        said = self.client(box, world, INSPECTED)
        assert "Verification: OK" in said and f"Peer certificate: CN = {INSPECTED}" in said

    def test_by_the_proxy(self, box, world):
        said = self.client(box, world, INSPECTED, "-proxy", "127.0.0.1:15080")
        assert "Verification: OK" in said

    @pytest.mark.parametrize("host", TLS_HOSTS)
    def test_a_name_that_lies(self, box, world, host):
        self.refused(self.client(box, world, host, "-servername", DENIED))

    def test_no_name_where_it_is_all_that_is_seen(self, box, world):
        self.refused(self.client(box, world, PASSED, "-noservername"))

    def refused(self, said):
        assert "CONNECTION ESTABLISHED" not in said
        assert "alert access denied" in said or "unrecognized name" in said, said
