"""Answers of a node that knows more than this client."""

from __future__ import annotations

import json

import pytest

from cloche import Sandbox
from cloche.model.errors import InvalidError
from cloche.sdk import options, wire
from cloche.sdk.values import SandboxInfo, SandboxInfoPage
from tests.unit.sdk.stub_node import StubNode

SPEC = {
    "image": "host", "env": {"K": "v"}, "newer": {"deep": [1]}, "limits": {"memory_mib": 64, "gpus": 2},
    "mounts": [{"source": "/a", "target": "/b", "mode": "ro", "idmap": True}],
}  # fmt: skip
LIMITS = {"memory_mib": 64, "cpus": 1.0, "pids": 256, "disk_mib": 1024, "open_files": 4096, "gpus": 2}
ANSWER = {
    "id": "sb_01jd0000000000000000000000", "project_id": "default", "name": None, "state": "running", "reason": None,
    "engine": "namespace", "isolation": "namespace", "spec": SPEC, "limits": LIMITS, "limits_unenforced": [],
    "labels": {}, "created_at": 1.0, "started_at": 2.0, "expires_at": None, "stopped_at": None, "newer": True,
}  # fmt: skip


def test_what_a_newer_node_adds_to_a_sandbox_is_passed_over() -> None:
    info = wire.decode(json.dumps(ANSWER).encode(), SandboxInfo)
    assert (info.spec.env, info.spec.limits.memory_mib, info.limits.pids) == ({"K": "v"}, 64, 256)
    assert [(mount.source, mount.mode) for mount in info.spec.mounts] == [("/a", "ro")]
    page = wire.decode(json.dumps({"sandboxes": [ANSWER], "next_cursor": None, "total": 1}).encode(), SandboxInfoPage)
    assert page.sandboxes == [info]


def test_a_newer_node_is_used(tmp_path) -> None:
    node = StubNode(tmp_path / "home")
    try:
        path = f"/v1/sandboxes/{ANSWER['id']}"
        node.answers["GET", path] = (200, ANSWER)
        node.answers["GET", "/v1/sandboxes"] = (200, {"sandboxes": [ANSWER], "next_cursor": None})
        home = str(tmp_path / "home")
        assert Sandbox.from_id(str(ANSWER["id"]), home=home).info().spec.env == {"K": "v"}
        assert [info.id for info in Sandbox.list(home=home)] == [ANSWER["id"]]
    finally:
        node.close()


def test_what_is_sent_stays_strict() -> None:
    with pytest.raises(TypeError, match="newer"):
        options.sandbox_spec("host", {"newer": 1})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(InvalidError):
        options.sandbox_spec("host", {"mounts": ["/a:/b:later"]})
