"""`cloche node` with a node that accepts and says nothing, as one that a signal has stopped does."""

import os
import socket

import pytest
from click.testing import CliRunner

from cloche.cli.commands import node
from cloche.model.errors import TimedOutError
from cloche.model.place import SOCKET_NAME
from cloche.sdk._sync.node import Node


@pytest.fixture
def silent(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOCHE_HOME", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen()
        yield tmp_path


@pytest.mark.parametrize("command", ["status", "stop"])
def test_a_node_that_does_not_answer_is_named_with_what_ends_it(silent, monkeypatch, command):
    whole = Node.health
    monkeypatch.setattr(Node, "health", lambda self: whole(self, timeout_seconds=0.01))
    failed = CliRunner().invoke(node.command, [command]).exception
    assert isinstance(failed, TimedOutError)
    assert f"pid {os.getpid()}" in failed.message and f"kill -9 {os.getpid()}" in failed.remedy
