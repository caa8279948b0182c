"""What the SDK sends about the network of a sandbox, and what it makes of the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloche import EgressPolicy, EgressRule, Sandbox, Secret, SecretSource
from cloche.model.errors import InvalidError
from cloche.sdk import egress_options, options
from tests.unit.sdk.stub_node import StubNode

STATE = {
    "policy": {"default": "deny", "rules": [{"hosts": ["a.example"], "newer": 1}], "newer": {}},
    "secrets": [{"name": "TOKEN", "hosts": ["a.example"], "newer": 1}], "door": "open", "newer": True,
}  # fmt: skip


class Recorder:
    """Answers everything about one sandbox's network, and keeps what it was sent."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.node = StubNode(home)
        self.sent: list[tuple[str, str, Any]] = []

    def made(self, **given: Any) -> Sandbox:
        self.on("POST", "/v1/sandboxes", None)
        return Sandbox.create(home=str(self.home), **given)

    def on(self, method: str, path: str, answer: Any, status: int = 200) -> None:
        def take(handler: Any) -> None:
            self.sent.append((method, handler.path, json.loads(handler.body) if handler.body else None))
            handler.create() if answer is None else handler.reply(status, answer)

        self.node.answers[method, path] = take

    @property
    def body(self) -> Any:
        return self.sent[-1][2]


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path / "home")
    yield made
    made.node.close()


def test_a_sandbox_is_made_with_a_policy_and_secrets(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "value-of-token")
    box = recorder.made(net="pypi,a.example", secrets=["TOKEN@a.example", ("OTHER@b.example", "given")])
    (_, _, body) = recorder.sent[0]
    assert [rule.get("preset") or rule["hosts"] for rule in body["egress"]["rules"]] == ["pypi", ["a.example"]]
    assert [secret["name"] for secret in body["secrets"]] == ["TOKEN", "OTHER"]
    assert body["session"]["secrets"] == {"TOKEN": "value-of-token", "OTHER": "given"}
    assert "value-of-token" not in json.dumps([body["egress"], body["secrets"], repr(box.known)])


def test_nothing_is_said_of_the_network_where_nothing_was(recorder: Recorder) -> None:
    recorder.made()
    assert "egress" not in recorder.body and recorder.body["session"] == {"env": {}}


@pytest.mark.parametrize(("net", "said"), [
    (None, False), ("none", True), ("allow", True), (EgressPolicy(), True)
])  # fmt: skip
def test_against_a_template_counts_what_was_said(net: Any, said: bool) -> None:
    given: options.SandboxOptions = {"template": "t", "net": net}
    assert ("egress" in options.create_body(options.sandbox_spec("host", given), given)) is said


def test_closing_is_said_to_a_template() -> None:
    given: options.SandboxOptions = {"template": "t", "net": "none"}
    assert options.create_body(options.sandbox_spec("host", given), given)["egress"] is None


def test_secrets_of_a_template_come_from_here(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "mine")
    refusal = {"code": "invalid", "message": "no value", "details": {"field": "session.secrets.TOKEN"}}

    def refuse_without(handler: Any) -> None:
        body = json.loads(handler.body)
        recorder.sent.append(("POST", handler.path, body))
        given = "TOKEN" in body["session"].get("secrets", {})
        handler.create() if given else handler.reply(422, {"error": refusal})

    recorder.node.answers["POST", "/v1/sandboxes"] = refuse_without
    Sandbox.create(home=str(recorder.home), template="t")
    assert [body["session"].get("secrets") for _, _, body in recorder.sent] == [None, {"TOKEN": "mine"}]
    monkeypatch.delenv("TOKEN")
    with pytest.raises(InvalidError, match="no value"):
        Sandbox.create(home=str(recorder.home), template="t")


@pytest.mark.parametrize("field", ["session.secrets.HAS", "session.secrets.ABSENT", "secrets[0].hosts", None])
def test_what_is_no_missing_value_is_a_refusal(field: str | None) -> None:
    refused = InvalidError("no", **({"field": field} if field else {}))
    assert not egress_options.completed({"HAS": "x"}, refused, {"HAS": "y", "secrets[0].hosts": "z"})


def test_a_state_of_a_newer_node(recorder: Recorder) -> None:
    box = recorder.made()
    recorder.on("GET", f"/v1/sandboxes/{box.id}/egress", STATE)
    state = box.egress()
    assert state.policy is not None and state.policy.rules[0].hosts == ["a.example"]
    assert (state.door, state.secrets[0].name) == ("open", "TOKEN")
    recorder.on("PUT", f"/v1/sandboxes/{box.id}/egress", STATE)
    box.set_policy(state.policy)
    assert "newer" not in json.dumps(recorder.body)


def test_rules_are_put_in_front_in_the_order_given(recorder: Recorder) -> None:
    box = recorder.made()
    path = f"/v1/sandboxes/{box.id}/egress"
    recorder.on("POST", f"{path}/rules", STATE)
    recorder.on("GET", path, STATE)
    box.allow("a.example", "pypi")
    rules = [body["rule"] for method, _, body in recorder.sent if method == "POST" and "rule" in body]
    assert [rule.get("preset") or rule["hosts"] for rule in rules] == ["pypi", ["a.example"]]
    box.deny("b.example")
    assert recorder.sent[-2][2]["rule"]["action"] == "deny"
    assert recorder.sent[-2][2]["position"] == 0


@pytest.mark.parametrize(("word", "action"), [("!a.example", "allow"), ("?a.example", "deny"), ("pypi", "deny")])
def test_words_that_contradict(word: str, action: Any) -> None:
    with pytest.raises(InvalidError) as raised:
        egress_options.rule(word, action)
    assert raised.value.remedy


def test_a_rule_as_it_is() -> None:
    rule = EgressRule(action="ask", hosts=["a.example"])
    assert egress_options.rule(rule, "allow") == rule


def test_a_secret_without_a_value_is_refused_here() -> None:
    with pytest.raises(InvalidError, match="TOKEN") as raised:
        egress_options.values(["TOKEN@a.example"], {})
    assert raised.value.remedy is not None and "export TOKEN" in raised.value.remedy
    with pytest.raises(InvalidError, match="list"):
        egress_options.secrets("TOKEN@a.example")


def test_where_values_come_from() -> None:
    given = ["TOKEN=file:/a@a.example", Secret(name="S", hosts=["a.example"]), "E=env:V@a.example"]
    assert egress_options.values(given, {"V": "v"}) == {"E": "v"}
    assert egress_options.values(egress_options.secrets(given), {"V": "v"}) == {"E": "v"}
    assert [secret.source.file for secret in egress_options.secrets(given)] == ["/a", None, None]


def test_a_template_knows_the_variable_of_a_secret_with_another_name() -> None:
    refused = InvalidError("no value", field="session.secrets.TOKEN", variable="OTHER")
    known: dict[str, str] = {}
    assert egress_options.completed(known, refused, {"TOKEN": "not this", "OTHER": "value"})
    assert known == {"TOKEN": "value"}
    assert not egress_options.completed({}, refused, {"TOKEN": "not this"})


def test_a_value_that_is_given_is_read_from_nowhere() -> None:
    told = [("TOKEN=file:/a@a.example", "given")]
    assert egress_options.values(told) == {"TOKEN": "given"}
    assert egress_options.secrets(told)[0].source == SecretSource()


def test_a_template_needs_no_values() -> None:
    spec = options.sandbox_spec("host", {"secrets": ["ABSENT_HERE@a.example"]})
    assert [secret.name for secret in spec.secrets] == ["ABSENT_HERE"]


def test_asks_and_answers(recorder: Recorder) -> None:
    box = recorder.made()
    path = f"/v1/sandboxes/{box.id}/egress/asks"
    ask = {"id": "ask_1", "sandbox_id": box.id, "host": "a.example", "port": 443, "newer": 1}
    recorder.on("GET", path, {"asks": [ask]})
    (found,) = box.asks()
    recorder.on("POST", f"{path}/ask_1", {}, 204)
    box.answer(found, "once")
    assert recorder.body == {"verdict": "once"}


def test_the_log_is_asked_for_by_this_sandbox(recorder: Recorder) -> None:
    box = recorder.made()
    line = {"time": 1.0, "sandbox_id": box.id, "via": "dns", "verdict": "denied", "host": "a.example", "newer": 1}
    recorder.on("GET", "/v1/audit/egress", {"lines": [line], "dropped": 0})
    assert [found.host for found in box.egress_log(verdicts=["denied", "failed"], since=2.5)] == ["a.example"]
    assert recorder.sent[-1][1] == f"/v1/audit/egress?sandbox={box.id}&since=2.5&verdict=denied%2Cfailed&limit=1000"


def test_ports(recorder: Recorder) -> None:
    box = recorder.made()
    path = f"/v1/sandboxes/{box.id}/ports"
    port = {"sandbox_id": box.id, "port": 8000, "url": "http://8000-a.localhost:1", "address": "127.0.0.1:2"}
    recorder.on("PUT", f"{path}/8000", port)
    recorder.on("GET", path, {"publications": [port]})
    recorder.on("DELETE", f"{path}/8000", {}, 204)
    assert box.publish(8000).url == port["url"] and recorder.sent[-1][2] == {}
    box.publish(8000, any_host=True)
    assert recorder.sent[-1][2] == {"any_host": True}
    assert [found.address for found in box.publications()] == ["127.0.0.1:2"]
    box.unpublish(8000)
    assert recorder.sent[-1][0] == "DELETE"
