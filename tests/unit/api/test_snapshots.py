"""Routes of suspend, fork and snapshots, over whole services."""

import msgspec
import pytest

from tests.unit.api.harness import error_of, serve
from tests.unit.service.place import Place

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api(tmp_path):
    async with Place(tmp_path) as place, serve(tmp_path, place.services) as served:
        assert (await served.ask("POST", "/v1/sandboxes", {"name": "a"}))[0] == 201
        yield served


async def test_suspend_and_resume(api):
    status, found = await api.ask("POST", "/v1/sandboxes/a/suspend")
    assert (status, found["state"]) == (200, "suspended")
    assert error_of(await api.ask("POST", "/v1/sandboxes/a/processes", {"argv": ["true"]}))[:2] == (409, "wrong_state")
    assert (await api.ask("POST", "/v1/sandboxes/a/resume"))[1]["state"] == "running"
    assert (await api.ask("GET", "/v1/sandboxes?state=suspended"))[1]["sandboxes"] == []


async def test_fork(api):
    parent = (await api.ask("GET", "/v1/sandboxes/a"))[1]
    status, found = await api.ask("POST", "/v1/sandboxes/a/fork", {"count": 2, "names": ["x", "y"], "ttl_seconds": 60})
    assert (status, [each["name"] for each in found["sandboxes"]]) == (201, ["x", "y"])
    assert {each["parent_id"] for each in found["sandboxes"]} == {parent["id"]}
    assert len((await api.ask("POST", "/v1/sandboxes/a/fork"))[1]["sandboxes"]) == 1
    assert error_of(await api.ask("POST", "/v1/sandboxes/a/fork", {"names": ["x"]}))[:2] == (409, "already_exists")


@pytest.mark.parametrize(
    ("field", "body"),
    [("count", {"count": 0}), ("count", {"count": "x"}), ("names", {"count": 2, "names": ["x"]}), ("more", {"more": 1}),
     ("ttl_seconds", {"ttl_seconds": 0}), ("name", {"names": ["No"]})],
)  # fmt: skip
async def test_a_fork_that_is_wrong_says_where(api, field, body):
    status, code, details = error_of(await api.ask("POST", "/v1/sandboxes/a/fork", body))
    assert (status, code, details["field"]) == (422, "invalid", field)


async def test_a_snapshot_comes_and_goes(api):
    asked = {"name": "base", "labels": {"k": "v"}, "description": "d"}
    status, made = await api.ask("POST", "/v1/sandboxes/a/snapshots", asked)
    assert (status, made["name"], made["kind"], made["engine"]) == (201, "base", "memory", "fake")
    assert await api.ask("GET", "/v1/snapshots") == (200, {"snapshots": [made]})
    assert await api.ask("GET", f"/v1/snapshots/{made['id']}") == (200, made)
    assert await api.ask("POST", "/v1/snapshots/base/verify") == (200, made)
    status, begun = await api.ask("POST", "/v1/sandboxes", {"name": "b", "snapshot": "base"})
    assert (status, begun["spec"]["snapshot"]) == (201, made["id"])
    assert (await api.ask("DELETE", "/v1/snapshots/base"))[0] == 204
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/verify"), ("GET", "/content")):
        assert error_of(await api.ask(method, f"/v1/snapshots/base{rest}"))[:2] == (404, "not_found")
    assert error_of(await api.ask("POST", "/v1/sandboxes", {"snapshot": "base"}))[:2] == (404, "not_found")


async def test_what_was_given_counts_also_when_it_is_as_by_default(api):
    await api.ask("POST", "/v1/sandboxes/a/snapshots", {"name": "base"})
    asked = {"snapshot": "base", "limits": {"pids": 255}}
    assert error_of(await api.ask("POST", "/v1/sandboxes", asked))[2]["field"] == "limits.pids"
    same = {"snapshot": "base", "limits": {"pids": 256}, "image": "host", "engine": "auto"}
    assert (await api.ask("POST", "/v1/sandboxes", same))[0] == 201


async def test_kinds_that_are_not_built_and_names_that_cannot_be(api):
    path = "/v1/sandboxes/a/snapshots"
    assert error_of(await api.ask("POST", path, {"kind": "filesystem"}))[:2] == (501, "unavailable_here")
    assert error_of(await api.ask("POST", path, {"kind": "x"}))[:2] == (422, "invalid")
    assert error_of(await api.ask("POST", path, {"name": "sn_x"}))[2]["field"] == "name"


async def test_a_snapshot_leaves_and_comes_back(api):
    await api.ask("POST", "/v1/sandboxes/a/snapshots", {"name": "base"})
    status, content = await api.ask("GET", "/v1/snapshots/base/content")
    assert status == 200 and api.headers["content-type"] == "application/x-tar"
    assert int(api.headers["content-length"]) == len(content)
    status, made = await api.ask("POST", "/v1/snapshots?name=copy", raw=content)
    assert (status, made["name"]) == (201, "copy"), made
    assert (await api.ask("POST", "/v1/sandboxes", {"snapshot": "copy"}))[0] == 201
    assert error_of(await api.ask("POST", "/v1/snapshots", raw=content))[:2] == (409, "already_exists")
    assert error_of(await api.ask("POST", "/v1/snapshots?name=No", raw=content))[:2] == (422, "invalid")


@pytest.mark.parametrize("content", [b"", b"x", bytes(10240), msgspec.json.encode({}), b"x" * 100_000])
async def test_what_is_no_snapshot_is_refused(api, content):
    assert error_of(await api.ask("POST", "/v1/snapshots", raw=content))[:2] == (422, "invalid")
    assert (await api.ask("GET", "/v1/snapshots"))[1] == {"snapshots": []}
