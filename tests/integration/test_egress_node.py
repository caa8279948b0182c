"""Policies, secrets and the door over the life of sandboxes and of their node: real ones, with servers and a DNS server
on loopback."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import time
from pathlib import Path

import pytest

from cloche import Sandbox
from cloche.model.egress import Ask, AuditLine
from cloche.model.errors import ClocheError, UnavailableError
from cloche.model.events import Event
from tests.integration.egress_world import NAME, OTHER, WAIT_SECONDS, World
from tests.integration.node_harness import ask, end_node, namespace_home, node_pid, wait_for_exit

VALUE = "value-that-no-file-may-have"


def fetched(box: Sandbox, url: str, *more: str) -> str:
    """What curl says: the body, or "error N"."""
    done = box.exec("sh", "-c", 'curl -sS -m 20 "$@" || echo "error $?"', "sh", *more, url, timeout_seconds=60)
    return done.stdout


def until_fetched(box: Sandbox, url: str) -> None:
    """The door comes back by itself; each attempt waits for what it has to wait for."""
    for _ in range(WAIT_SECONDS):
        if fetched(box, url).startswith("hello"):
            return
    raise AssertionError("the network has not come back")


def door_of(home: Path) -> int:
    """The process id of the node's door."""
    node = node_pid(home)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == node and b"cloche.egress.door" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise AssertionError("the node has no door")


class TestPolicies:
    def test_what_is_allowed_works_with_and_without_a_proxy(self, home, world):
        with Sandbox.create(net=world.net) as box:
            assert fetched(box, f"{world.url}/a") == "hello /a\n"
            if box.egress().transparent_tcp:
                assert fetched(box, f"{world.url}/b", "--noproxy", "*") == "hello /b\n"
            assert "egress_denied" in fetched(box, f"http://{OTHER}:{world.plain}/")

    def test_a_closed_one_reaches_nothing_and_is_opened_and_closed_live(self, home, world):
        with Sandbox.create() as box:
            assert fetched(box, f"{world.url}/").startswith("error")
            box.allow(world.net)
            assert fetched(box, f"{world.url}/") == "hello /\n"
            box.set_policy(None)
            assert fetched(box, f"{world.url}/").startswith("error")

    def test_what_a_closed_one_tried_is_suggested(self, home, world):
        with Sandbox.create() as box:
            fetched(box, f"{world.url}/")
            suggested = box.suggest_policy()
            assert any(NAME in word for word in suggested.words)

    def test_a_change_ends_what_is_open_and_not_allowed_any_more(self, home, world):
        world.held.clear()
        try:
            with Sandbox.create(net=world.net) as box:
                slow = saying(box, f"{world.url}/slow")
                assert world.asked.acquire(timeout=WAIT_SECONDS)
                box.set_policy(OTHER)
                slow.wait()
                assert "hello" not in box.files.read("/tmp/said")
        finally:
            world.held.set()

    def test_two_are_apart(self, home, world):
        with Sandbox.create(net=world.net) as one, Sandbox.create(net=OTHER) as other:
            assert fetched(one, f"{world.url}/").startswith("hello")
            assert "egress_denied" in fetched(other, f"{world.url}/")
            one.stop()
            assert "egress_denied" in fetched(other, f"{world.url}/")

    def test_denials_are_events_and_lines(self, home, world):
        with Sandbox.create(net=world.net) as box:
            fetched(box, f"http://{OTHER}:{world.plain}/x")
            assert told(box, "sandbox.egress_denied").data["host"] == OTHER
            lines: list[AuditLine] = []
            while not lines:
                # written beside all this, so a moment later
                lines = [line for line in box.egress_log(verdicts=["denied"]) if line.host == OTHER and line.path]
            (line,) = lines
            assert (line.method, line.path, line.status) == ("GET", "/x", 403)

    def test_a_question_is_answered(self, home, world):
        with Sandbox.create(net=f"?{world.net}") as box:
            waiting = saying(box, f"{world.url}/asked")
            (found,) = asked_in(box)
            assert (found.host, found.port) == (NAME, world.plain)
            box.answer(found, "once")
            waiting.wait()
            assert box.files.read("/tmp/said") == "hello /asked\n"

    def test_always_is_asked_once(self, home, world):
        with Sandbox.create(net=f"?{world.net}") as box:
            waiting = saying(box, f"{world.url}/asked")
            (found,) = asked_in(box)
            box.answer(found, "always")
            waiting.wait()
            assert box.files.read("/tmp/said") == "hello /asked\n"
            assert box.egress().policy.rules[0].hosts == [NAME]
            assert fetched(box, f"{world.url}/again") == "hello /again\n"


def saying(box: Sandbox, url: str):
    """curl under way; what it says will be in a file."""
    return box.spawn("sh", "-c", 'curl -sS -m 60 "$1" > /tmp/said', "sh", url)


def told(box: Sandbox, kind: str) -> Event:
    """The first event of this kind, which may still be on its way."""
    for event in box._node.events(sandbox=box.id, follow=True):
        if event.kind == kind:
            return event
    raise AssertionError(f"no {kind}")


def asked_in(box: Sandbox) -> list[Ask]:
    told(box, "sandbox.egress_ask")
    return box.asks()


class TestLife:
    def test_after_a_stop_it_is_as_before(self, home, world):
        with Sandbox.create(net=world.net) as box:
            box.stop()
            box.start()
            assert fetched(box, f"{world.url}/") == "hello /\n"

    def test_traffic_is_counted_and_kept(self, home, world):
        with Sandbox.create(net=world.net) as box:
            fetched(box, f"{world.url}/")
            box.stop()
            counters = box.egress().counters
            assert counters.received_bytes > 0
            box.start()
            fetched(box, f"{world.url}/")
            box.stop()
            assert box.egress().counters.received_bytes >= 2 * counters.received_bytes

    def test_a_door_that_is_killed_comes_back(self, home, world):
        with Sandbox.create(net=world.net) as box:
            assert fetched(box, f"{world.url}/").startswith("hello")
            killed = door_of(home)
            os.kill(killed, signal.SIGKILL)
            until_fetched(box, f"{world.url}/")
            assert door_of(home) != killed
            assert "egress_denied" in fetched(box, f"http://{OTHER}:{world.plain}/")

    def test_without_a_door_nothing_opens(self, home, world):
        with Sandbox.create(net=world.net) as box:
            stopped = door_of(home)
            os.kill(stopped, signal.SIGSTOP)
            try:
                assert fetched(box, f"{world.url}/", "-m", "2").startswith("error")
            finally:
                os.kill(stopped, signal.SIGKILL)
            until_fetched(box, f"{world.url}/")

    def test_a_node_that_is_killed_takes_its_door_along_and_the_next_one_opens_again(self, home, world):
        box = Sandbox.create(net=world.net)
        door = door_of(home)
        end_node(home, signal.SIGKILL)
        wait_for_exit(door)
        # the next request starts a node, which has attached it before it answers
        assert fetched(Sandbox.from_id(box.id), f"{world.url}/") == "hello /\n"
        assert "egress_denied" in fetched(Sandbox.from_id(box.id), f"http://{OTHER}:{world.plain}/")
        Sandbox.from_id(box.id).remove()


class TestSecrets:
    def test_the_value_reaches_its_host_and_nobody_else(self, home, world):
        with Sandbox.create(net=world.net, secrets=[(f"TOKEN@{NAME}", VALUE)]) as box:
            world.seen.clear()
            said = sent(box, world)
            assert said == "hello /known\n", said
            assert world.seen == [f"Bearer {VALUE}"]
            assert VALUE not in box.exec("env").stdout
            refused = box.exec("sh", "-c", f'curl -sS -m 20 -H "X-Key: $TOKEN" {world.url}/plain').stdout
            assert "secret_misused" in refused
            assert world.seen == [f"Bearer {VALUE}"]
            box.set_policy(world.net)
        assert holding(home, VALUE) == []

    def test_a_new_node_asks_for_a_value_that_it_was_given(self, home, world):
        box = Sandbox.create(net=world.net, secrets=[(f"TOKEN@{NAME}", VALUE)])
        end_node(home, signal.SIGKILL)
        found = Sandbox.from_id(box.id)
        world.seen.clear()
        refused = sent(found, world)
        assert "TOKEN" in refused
        assert world.seen == []
        assert found.egress().missing_secrets == ["TOKEN"]
        found.give_secret(f"TOKEN@{NAME}", "newer")
        assert sent(found, world) == "hello /known\n"
        assert world.seen == ["Bearer newer"]
        found.remove()

    def test_a_new_node_reads_a_file_again(self, home, world, tmp_path):
        (tmp_path / "token").write_text("from a file\n")
        box = Sandbox.create(net=world.net, secrets=[f"TOKEN=file:{tmp_path / 'token'}@{NAME}"])
        end_node(home, signal.SIGKILL)
        world.seen.clear()
        assert sent(Sandbox.from_id(box.id), world) == "hello /known\n"
        assert world.seen == ["Bearer from a file"]
        Sandbox.from_id(box.id).remove()


def sent(box: Sandbox, world: World) -> str:
    """What comes back for a request with the secret's placeholder in it."""
    command = f'curl -sS -m 20 -H "Authorization: Bearer $TOKEN" https://{NAME}:{world.tls}/known'
    done = box.exec("sh", "-c", command, timeout_seconds=60)
    return done.stdout + done.stderr


def holding(home: Path, text: str) -> list[str]:
    """Files of the data directory with this in them."""
    files = (path for path in home.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if text.encode() in path.read_bytes()]


class TestPorts:
    def test_a_server_inside_is_reached_from_this_machine(self, home):
        with Sandbox.create() as box:
            published = box.publish(8000)
            serve(box)
            assert read(published.url, published.address) == b"from inside\n"
            assert box.publish(8000) == published
            # nothing else has opened by that
            assert box.egress().policy is None
            box.unpublish(8000)
            with pytest.raises(OSError):
                read(published.url, published.address)

    def test_url_and_address_stay_over_stop_door_and_node(self, home):
        box = Sandbox.create()
        published = box.publish(8000)
        serve(box)
        box.stop()
        box.start()
        serve(box)
        assert read(published.url, published.address) == b"from inside\n"
        os.kill(door_of(home), signal.SIGKILL)
        assert until_read(published) == b"from inside\n"
        end_node(home, signal.SIGKILL)
        found = Sandbox.from_id(box.id)
        assert found.publications() == [published]
        assert read(published.url, published.address) == b"from inside\n"
        found.remove()


def serve(box: Sandbox) -> None:
    """Returns when it listens."""
    program = (
        "import http.server, os; os.makedirs('/tmp/www', exist_ok=True); os.chdir('/tmp/www');"
        "open('index.html', 'w').write('from inside\\n');"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 8000), http.server.SimpleHTTPRequestHandler);"
        "open('/tmp/listens', 'w').close(); server.serve_forever()"
    )
    box.exec("rm", "-f", "/tmp/listens")
    box.spawn("python3", "-c", program)
    done = box.exec("sh", "-c", "while ! test -e /tmp/listens; do sleep 0.02; done", timeout_seconds=WAIT_SECONDS)
    assert done.exit_code == 0


def read(url: str, address: str) -> bytes:
    """By the name in the URL, at this address' machine, and by the address itself. Raises OSError."""
    host = url.removeprefix("http://").rstrip("/")
    port = int(host.rpartition(":")[2])
    found = []
    for place, said in ((("127.0.0.1", port), host), (_place(address), address)):
        connection = http.client.HTTPConnection(*place, timeout=WAIT_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"Host": said})
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(answer.status)
            found.append(answer.read())
    assert found[0] == found[1]
    return found[0]


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def until_read(published) -> bytes:
    """A door that was killed comes back within moments."""
    give_up = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return read(published.url, published.address)
        except OSError:
            if time.monotonic() > give_up:
                raise


class TestNoDoor:
    def test_a_create_with_a_policy_fails_whole_and_a_closed_one_works(self, world, tmp_path):
        place = tmp_path / "home"
        with namespace_home(place):
            # where the authority is kept is no directory, so the door cannot begin
            (place / "egress").touch()
            with pytest.raises(UnavailableError) as failed:
                Sandbox.create(net=world.net)
            assert "door" in failed.value.message
            assert Sandbox.list() == []
            with Sandbox.create() as box:
                with pytest.raises(ClocheError):
                    box.allow(world.net)
                assert box.egress().policy is None
            (place / "egress").unlink()
            with Sandbox.create(net=world.net) as box:
                assert fetched(box, f"{world.url}/") == "hello /\n"

    def test_closed_sandboxes_start_no_door(self, tmp_path):
        with namespace_home(tmp_path / "home") as place:
            with Sandbox.create():
                with pytest.raises(AssertionError):
                    door_of(place)
                status, _ = ask(place, "GET", "/v1/egress/presets")
                assert status == 200
