"""Published ports from the host's side: what pages in a browser, other sandboxes and URLs that are out of date get."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from cloche import Sandbox
from cloche.model.egress import Publication
from cloche.sdk import launch
from tests.integration.egress_world import OTHER, World
from tests.integration.node_harness import DEADLINE_SECONDS, node_pid
from tests.integration.test_egress_node import door_of, fetched, serve

SAID = b"from inside\n"


@pytest.fixture(scope="module")
def box(home: Path) -> Iterator[Sandbox]:
    with Sandbox.create() as made:
        serve(made)
        yield made


def said(place: tuple[str, int], data: bytes) -> bytes:
    """All that comes back for these bytes."""
    heard = b""
    with socket.create_connection(place, DEADLINE_SECONDS) as sock:
        sock.sendall(data)
        while more := sock.recv(65536):
            heard += more
    return heard


def status(port: int, host: str, *more: str, target: str = "/") -> int:
    """Of the answer to a request with this Host."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", *more, "", ""]
    return int(said(("127.0.0.1", port), "\r\n".join(lines).encode()).split(b" ", 2)[1])


def parts(published: Publication) -> tuple[str, int, int]:
    """Its name, the port of all names, and its own port."""
    place = urlsplit(published.url)
    assert place.hostname is not None and place.port is not None
    return place.hostname, place.port, int(published.address.rpartition(":")[2])


class TestNames:
    @pytest.mark.parametrize(
        "host",
        ["localhost", "127.0.0.1", "[::1]", "rebound.example", "{slug}", "{name}.", "x.{name}", "{name}.example",
         "{slug}.localhost.example", "8000-.localhost"],
    )  # fmt: skip
    def test_a_page_that_leads_here_by_another_name_gets_nothing(self, box: Sandbox, host: str) -> None:
        name, port, _ = parts(box.publish(8000))
        assert status(port, name) == 200
        assert status(port, host.format(name=name, slug=name.partition(".")[0])) == 404

    @pytest.mark.parametrize("host", ["{name}@rebound.example", "{name}, rebound.example", "{name}/", "{name}%00", ""])
    def test_what_is_no_name_is_refused(self, box: Sandbox, host: str) -> None:
        name, port, _ = parts(box.publish(8000))
        assert status(port, host.format(name=name)) == 400

    def test_a_target_does_not_say_another_host_than_host(self, box: Sandbox) -> None:
        name, port, _ = parts(box.publish(8000))
        assert status(port, "rebound.example", target=f"http://{name}/") == 400
        assert status(port, name, target="http://rebound.example/") == 400
        assert status(port, name, "Host: rebound.example") == 400

    def test_nothing_else_of_the_node_listens_for_a_browser(self, box: Sandbox, home: Path) -> None:
        name, port, own = parts(box.publish(8000))
        assert ports_of(node_pid(home)) == set()
        assert {port, own} <= ports_of(door_of(home))
        for path in ("/v1/sandboxes", "/v1/health"):
            assert status(port, "localhost", target=path) == 404
            assert status(port, name, target=path) == 404


def ports_of(pid: int) -> set[int]:
    """TCP ports on which a process listens."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        held.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in held:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


class TestAddresses:
    @pytest.mark.parametrize(
        "host", ["rebound.example", "rebound.example:80", "localhost.rebound.example", "my-machine"]
    )
    def test_a_page_that_leads_here_by_a_name_of_its_own_reads_nothing(self, box: Sandbox, host: str) -> None:
        own = parts(box.publish(8000))[2]
        for method in ("GET", "POST", "anything"):
            asked = f"{method} /note HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\r\n"
            heard = said(("127.0.0.1", own), asked.encode())
            assert heard.startswith(b"HTTP/1.1 421 ") and SAID not in heard
        long = f"GET /{'x' * 70_000} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        assert said(("127.0.0.1", own), long.encode()).startswith(b"HTTP/1.1 421 ")

    def test_programs_of_this_machine_are_served(self, box: Sandbox) -> None:
        name, _, own = parts(box.publish(8000))
        for host in ("localhost", f"127.0.0.1:{own}", "[::1]", name):
            assert status(own, host) == 200

    def test_any_name_is_served_where_that_is_wanted_also_after_a_stop(self, home: Path) -> None:
        with Sandbox.create() as made:
            assert made.publish(8000, any_host=True).any_host
            made.stop()
            made.start()
            serve(made)
            (published,) = made.publications()
            assert status(parts(published)[2], "proxied.example") == 200
            made.publish(8000, any_host=False)
            assert status(parts(published)[2], "proxied.example") == 421


class TestOtherSandboxes:
    def test_one_that_may_reach_everything_reaches_no_port_of_another(self, box: Sandbox) -> None:
        name, port, own = parts(box.publish(8000))
        places = [f"127.0.0.1:{own}", f"127.1:{own}", f"2130706433:{own}", f"0x7f.1:{own}", f"0.0.0.0:{own}",
                  f"[::ffff:127.0.0.1]:{own}", f"[::1]:{port}", f"localhost:{port}", f"{name}:{port}",
                  f"{socket.gethostname()}:{own}"]  # fmt: skip
        ways = [["-x", "http://127.0.0.1:15080"], ["-x", "socks5h://127.0.0.1:15081"], ["--noproxy", "*"]]
        with Sandbox.create(net="allow") as other:
            for place in places:
                for way in ways:
                    heard = fetched(other, f"http://{place}/", "-H", f"Host: {name}", *way)
                    assert SAID.decode() not in heard, (place, way)
        with Sandbox.create(net=f"127.0.0.1:{own}") as permitted:
            assert fetched(permitted, f"http://127.0.0.1:{own}/", *ways[0], "--noproxy", "") == SAID.decode()

    def test_one_that_is_killed_leaves_the_others_served_and_filtered(self, box: Sandbox, world: World) -> None:
        name, port, _ = parts(box.publish(8000))
        with Sandbox.create(net=world.net) as reaching, Sandbox.create(net=OTHER) as killed:
            serve(killed)
            gone, _, own = parts(killed.publish(8000))
            assert status(port, gone) == 200
            killed.exec("sh", "-c", "kill -9 -1")
            killed.kill()
            assert (status(port, name), status(port, gone)) == (200, 503)
            with pytest.raises(OSError):
                said(("127.0.0.1", own), b"x")
            assert fetched(reaching, f"{world.url}/") == "hello /\n"
            assert "egress_denied" in fetched(reaching, f"http://{OTHER}:{world.plain}/")


class TestOutOfDate:
    def test_a_url_of_one_that_is_gone_leads_to_nobody(self, home: Path) -> None:
        first = Sandbox.create()
        serve(first)
        name, port, _ = parts(first.publish(8000))
        assert status(port, name) == 200
        first.remove()
        with Sandbox.create() as second:
            serve(second)
            newer, again, _ = parts(second.publish(8000))
            assert again == port and newer != name
            assert (status(port, newer), status(port, name)) == (200, 503)

    def test_an_address_that_somebody_has_taken_is_another_one(self, home: Path) -> None:
        with Sandbox.create() as made:
            before = made.publish(8000)
            own = parts(before)[2]
            made.stop()
            with socket.create_server(("127.0.0.1", own)):
                made.start()
                (after,) = made.publications()
                assert after.url == before.url and after.address != before.address
                serve(made)
                assert said(("127.0.0.1", parts(after)[2]), b"GET / HTTP/1.0\r\n\r\n").endswith(SAID)

    def test_a_paused_one_is_answered_for_and_goes_on(self, home: Path) -> None:
        with Sandbox.create() as made:
            serve(made)
            name, port, _ = parts(made.publish(8000))
            made.pause()
            assert status(port, name) == 503
            made.resume()
            assert status(port, name) == 200


class TestDial:
    @pytest.mark.parametrize("host", ["10.0.0.1", "198.18.0.9", "169.254.169.254", "127.0.0.1"])
    def test_what_a_client_dials_inside_does_not_leave_a_closed_one(
        self, box: Sandbox, home: Path, world: World, host: str
    ) -> None:
        """The guest's own connections are the sandbox's: they are redirected as the code's are."""
        asked = f"POST /v1/sandboxes/{box.id}/dial?port={world.plain}&host={quote(host)} HTTP/1.1\r\nHost: node\r\n"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE_SECONDS)
            sock.connect(str(launch.socket_path(home)))
            sock.sendall(f"{asked}Connection: Upgrade\r\nUpgrade: cloche-stream\r\nContent-Length: 0\r\n\r\n".encode())
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            heard = b""
            try:
                while more := sock.recv(65536):
                    heard += more
            except ConnectionError:
                pass
        assert b"hello" not in heard


def test_a_thousand_that_never_finish_asking_are_no_end(box: Sandbox) -> None:
    """Whoever comes on top of them is turned away, and the door goes on."""
    name, port, _ = parts(box.publish(8000))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this user may not open so many files")
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    try:
        for _ in range(1100):
            sock = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS)
            sock.sendall(b"GET")
            held.append(sock)
    finally:
        for sock in held:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert until_status(port, name) == 200


def until_status(port: int, host: str) -> int:
    give_up = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return status(port, host)
        except (OSError, IndexError):
            assert time.monotonic() < give_up
