"""Routes of templates and of the pool, and what of a create was said."""

import pytest

from tests.unit.api.harness import error_of, serve

pytestmark = pytest.mark.anyio
TEMPLATE = {
    "spec": {"limits": {"pids": 9}, "env": {"A": "1"}},
    "warm": {"size": 2, "contexts": [{"code": "import json"}]},
}


@pytest.fixture
async def api(tmp_path):
    async with serve(tmp_path) as served:
        yield served


async def test_a_template_comes_and_goes(api):
    status, made = await api.ask("PUT", "/v1/templates/t", TEMPLATE)
    assert (status, made["name"], made["spec"]["limits"]["pids"]) == (200, "t", 9)
    assert made["warm"] == {"size": 2, "contexts": [{"language": "python", "code": "import json"}]}
    assert await api.ask("GET", "/v1/templates/t") == (200, made)
    assert await api.ask("GET", "/v1/templates") == (200, {"templates": [made]})
    (pool,) = (await api.ask("GET", "/v1/pool"))[1]["pools"]
    assert (pool["templates"], pool["wanted"], pool["ready"], pool["misses"]) == (["t"], 2, 0, {})
    assert (await api.ask("DELETE", "/v1/templates/t"))[0] == 204
    assert (await api.ask("GET", "/v1/pool"))[1]["pools"] == []
    for method in ("GET", "DELETE"):
        assert error_of(await api.ask(method, "/v1/templates/t"))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("spec.nmae", {"spec": {"nmae": "x"}}),
        ("spec.name", {"spec": {"name": "x"}}),
        ("warm.size", {"warm": {"size": -1}}),
        ("warm.contexts[0].language", {"warm": {"contexts": [{"language": "cobol"}]}}), ("size", {"size": 1}),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(api, field, body):
    status, code, details = error_of(await api.ask("PUT", "/v1/templates/t", body))
    assert (status, code, details["field"]) == (422, "invalid", field)


async def test_of_a_create_with_a_template_the_given_fields_are_known(api, monkeypatch):
    said = []
    create = api.services.create

    async def listening(spec, *, session_env=None, said=None, session_secrets=None, heard=said):
        heard.append(said)
        return await create(spec, session_env=session_env)

    monkeypatch.setattr(api.services, "create", listening)
    for body in ({"template": "t", "user": "user", "ttl_seconds": None}, {"user": "user"}):
        assert (await api.ask("POST", "/v1/sandboxes", body))[0] == 201
    assert said == [frozenset({"template", "user", "ttl_seconds"}), None]
