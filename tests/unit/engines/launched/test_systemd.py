"""Delegation by the user's systemd, asked over a real message bus from a stand-in for systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading

import pytest

from cloche.engines.launched import systemd

CONFIG = """<busconfig><type>session</type><listen>unix:path={place}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


@pytest.fixture
def bus(tmp_path_factory):
    if not shutil.which("dbus-daemon"):
        pytest.skip("dbus-daemon is not installed (as root, python3 dev.py setup installs it)")
    directory = tmp_path_factory.mktemp("bus")
    config = directory / "bus.conf"
    config.write_text(CONFIG.format(place=directory / "bus"))
    daemon = subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield daemon.stdout.readline().strip()
    finally:
        daemon.terminate()
        daemon.wait()
        daemon.stdout.close()


@pytest.fixture
def manager(bus):
    """A service under systemd's name that answers one call, and what it was asked."""
    from jeepney import HeaderFields, message_bus, new_error, new_method_return
    from jeepney.io.blocking import open_dbus_connection

    connection = open_dbus_connection(bus=bus)
    connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.systemd1"), timeout=10)
    asked: list = []
    refuse = threading.Event()

    def serve():
        call = connection.receive(timeout=10)
        while call.header.fields.get(HeaderFields.member) != "StartTransientUnit":
            call = connection.receive(timeout=10)
        asked.append(call)
        if refuse.is_set():
            connection.send(new_error(call, "org.freedesktop.DBus.Error.AccessDenied", "s", ("no",)))
        else:
            connection.send(new_method_return(call, "o", ("/org/freedesktop/systemd1/job/1",)))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield asked, refuse
    thread.join(5)
    connection.close()


def test_the_scope_is_asked_for_as_systemd_wants_it(bus, manager):
    asked, _ = manager
    systemd.start_scope(bus, "cloche-node-7.scope")
    scope, mode, properties, auxiliary = asked[0].body
    assert (scope, mode, auxiliary) == ("cloche-node-7.scope", "fail", [])
    assert dict(properties)["PIDs"] == ("au", [os.getpid()])
    assert dict(properties)["Delegate"] == ("b", True)


def test_a_refusal_changes_nothing(bus, manager, monkeypatch, tmp_path):
    _, refuse = manager
    refuse.set()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus)
    assert systemd.delegate(str(tmp_path)) is False
    assert not list(tmp_path.iterdir())


def test_a_granted_scope_is_divided(bus, manager, monkeypatch, tmp_path):
    group = tmp_path / f"user.slice/cloche-node-{os.getpid()}.scope"
    group.mkdir(parents=True)
    (group / "cgroup.controllers").write_text("cpu io memory pids\n")
    (group / systemd.NODE_GROUP).mkdir()
    own = tmp_path / "own"
    own.write_text(f"0::/user.slice/{group.name}\n")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus)
    assert systemd.delegate(str(tmp_path), str(own)) is True
    assert (group / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (group / systemd.NODE_GROUP / "cgroup.procs").read_text() == str(os.getpid())


def test_without_memory_there_is_no_use_in_it(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu pids")
    assert systemd.divide(tmp_path) is False


@pytest.mark.parametrize("address", ["unix:path=/nonexistent/bus", "tcp:host=nowhere", "nonsense"])
def test_no_bus_is_no_failure(monkeypatch, address):
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    assert systemd.delegate() is False


def test_the_address_is_the_environments_or_the_well_known_one(tmp_path):
    (tmp_path / "bus").touch()
    assert systemd.bus_address({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}, 5) == "unix:path=/x"
    assert systemd.bus_address({"XDG_RUNTIME_DIR": str(tmp_path)}, 5) == f"unix:path={tmp_path}/bus"
    assert systemd.bus_address({"XDG_RUNTIME_DIR": str(tmp_path / "none")}, 5) is None
