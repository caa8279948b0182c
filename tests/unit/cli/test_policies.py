"""Policies as commands are given them, and as they show them."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from cloche.cli import arguments, policies, policyview, refusals
from cloche.cli.commands import policy as policy_command
from cloche.cli.commands import publish
from cloche.model.egress import AcceptRule, AuditLine, EgressBudget, EgressCounters, EgressPolicy, EgressRule, Secret
from cloche.model.errors import InvalidError, NotFoundError
from cloche.sdk.egress_values import EgressInfo, PolicyInfo, PresetInfo, RuleInfo, SecretInfo, SuggestionInfo, Tried

HOST = EgressRule(hosts=["api.example.com"])


@pytest.mark.parametrize("text", ["none", "allow", "pypi,api.example.com:8443,!*.tracker.example"])
def test_words_stay_words(text: str) -> None:
    assert policies.read(text) == text


def test_wrong_words_are_refused_before_anything_is_made() -> None:
    with pytest.raises(InvalidError):
        policies.read("a b c")


@pytest.mark.parametrize(("said", "policy"), [
    ("pypi", "pypi"),
    ("", "none"),
    ("[api.example.com]", EgressPolicy(rules=[HOST])),
    ("default: ask\nrules:\n  - api.example.com\n  - action: deny\n    hosts: [a.example]\n",
     EgressPolicy(default="ask", rules=[HOST, EgressRule(action="deny", hosts=["a.example"])])),
    ("budget: {bytes_out: 1000}", EgressPolicy(budget=EgressBudget(bytes_out=1000))),
    ("budget: {bytes_out: 1k, connections: 5}", EgressPolicy(budget=EgressBudget(bytes_out=1024, connections=5))),
    ("budget: out=1k,connections=5", EgressPolicy(budget=EgressBudget(bytes_out=1024, connections=5))),
    ("accept: [web:80, {sandboxes: [test]}]",
     EgressPolicy(accept=[AcceptRule(sandboxes=["web"], ports=["80"]), AcceptRule(sandboxes=["test"])])),
    ("[api.example.com, out=1k, ask, {preset: pypi}]",
     EgressPolicy(default="ask", rules=[HOST, EgressRule(preset="pypi")], budget=EgressBudget(bytes_out=1024))),
    (json.dumps({"rules": [{"preset": "pypi"}]}), EgressPolicy(rules=[EgressRule(preset="pypi")])),
])  # fmt: skip
def test_policy_files(said: str, policy: object, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(said)
    assert policies.read(f"@{path}") == policy


@pytest.mark.parametrize(("said", "named"), [
    ("rules: [a b]", r"rules\[0\]"), ("rules: {}", "list"), ("7", "words"),
    ("defualt: deny", "a policy has no `defualt`"),
    ("budget: {out: 5}", "a budget has no `out`"),
    ("rules: [out=5]", r"rules\[0\]"), ("budget: {bytes_out: lots}", "budget: bytes_out"), ("accept: ['web:']", "web:"),
    ("budget: [1]", "budget"), ("accept: web", "accept"), ("[{hosst: [a]}]", "hosst"),
    ("{", "YAML"), ("rules: [{hosts: [1]}]", "rules"), ("rules: [{hosts: ['a b']}]", "hosts"),
])  # fmt: skip
def test_wrong_policy_files_are_named(said: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(said)
    with pytest.raises(InvalidError, match=named) as raised:
        policies.read(f"@{path}")
    assert str(path) in raised.value.message


def test_a_policy_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        policies.read(f"@{tmp_path}/none")


def test_flags_become_options() -> None:
    assert arguments.network(None, ()) == {}
    assert arguments.network("pypi", ["A@b.example"]) == {"net": "pypi", "secrets": ["A@b.example"]}


def test_a_state_for_people() -> None:
    info = EgressInfo(
        policy=PolicyInfo(rules=[RuleInfo(preset="pypi"), RuleInfo(action="deny", hosts=["a.example"], note="\x1b")],
                          default="ask"),
        secrets=[SecretInfo(name="TOKEN", hosts=["api.example.com"])],
        door="open", missing_secrets=["TOKEN"], counters=EgressCounters(sent_bytes=2048, denied=3),
    )  # fmt: skip
    text = "\n".join(policyview.state(info, "work"))
    for part in ("pypi,!a.example,ask", "2. !a.example  # \\x1b", "is asked about", "TOKEN@api.example.com; no value",
                 "2K out", "3 refused", "HTTP_PROXY"):  # fmt: skip
        assert part in text
    long = RuleInfo(action="ask", hosts=["a.example"], methods=["GET", "HEAD"], note="ours")
    full = "\n".join(policyview.state(EgressInfo(policy=PolicyInfo(rules=[long]), door="open"), "work"))
    assert "1. ask: hosts a.example; methods GET, HEAD  # ours" in full
    closed = "\n".join(policyview.state(EgressInfo(policy=None, door="closed"), "work"))
    assert "none" in closed and "nothing leaves" in closed and "traffic" not in closed
    bounds = EgressBudget(
        bytes_out=1024, bytes_in=10 << 20, connections=5, connections_per_minute=9, bytes_per_second=1
    )
    counted = EgressCounters(sent_bytes=1024, received_bytes=1 << 20, connections_open=2)
    bounded = PolicyInfo(budget=bounds, accept=[AcceptRule(sandboxes=["web"])])
    said = "\n".join(policyview.state(EgressInfo(policy=bounded, door="open", counters=counted), "work"))
    assert "budget     1K of 1K out (used up), 1M of 10M in, 2 of 5 connections open, at most 9 new ones" in said
    assert "out=1k,in=10m,connections=5,connections=9/min,rate=1/s,accept=web" in said and "web on any port" in said
    shut = EgressInfo(policy=None, door="closed", secrets=[SecretInfo(name="TOKEN", hosts=["api.example.com"])])
    assert "not used while" in "\n".join(policyview.state(shut, "work"))


@pytest.mark.parametrize(("line", "shown"), [
    (AuditLine(time=0, sandbox_id="sb_1", via="proxy", verdict="denied", host="a.example", port=443, rule="default",
               process="pip", repeated=2), "denied   work  a.example:443  default  by pip  and 2 more"),
    (AuditLine(time=0, sandbox_id="sb_1", via="redirect", verdict="allowed", host="::1", port=80, rule="rule 1",
               sent_bytes=10, received_bytes=2048), "allowed  work  [::1]:80  rule 1  10B out 2K in"),
    (AuditLine(time=0, sandbox_id="sb_2", sandbox="x\x1b", via="proxy", verdict="allowed", host="a.example", port=443,
               method="GET", path="/a", status=200, tls="inspect"), "allowed  x\\x1b  GET https://a.example/a 200"),
    (AuditLine(time=0, sandbox_id="sb_1", via="dns", verdict="denied", host="b.example"), "work  b.example (name)"),
    (AuditLine(time=0, sandbox_id="sb_1", via="dns", verdict="denied", host="b.example", rule="r", reason="r"), ")  r"),
    (AuditLine(time=0, sandbox_id="sb_1", via="proxy", verdict="denied", host="b.example", port=1, rule="default",
               reason="no rule allows it"), "b.example:1  no rule allows it"),
    (AuditLine(time=0, sandbox_id="sb_1", via="proxy", verdict="denied", host="b.example", port=1, rule="rule 2",
               reason="not there"), "b.example:1  not there; rule 2"),
    (AuditLine(time=0, sandbox_id="sb_1", via="proxy", verdict="allowed", host="b.example", port=1, rule="rule 2",
               reason="ours"), "b.example:1  rule 2: ours"),
    (AuditLine(time=0, sandbox_id="sb_1", via="inside", verdict="denied", host="b.example", port=123, protocol="udp",
               rule="no-udp", reason="UDP does not leave a sandbox", repeated=4),
     "work  UDP to b.example:123  UDP does not leave a sandbox  and 4 more"),
    (AuditLine(time=0, sandbox_id="sb_1", via="inside", verdict="denied", host="2001:db8::1", protocol="icmp",
               rule="no-icmp", reason="pings do not leave a sandbox"),
     "ping to [2001:db8::1]  pings do not leave a sandbox"),
    (AuditLine(time=0, sandbox_id="sb_1", via="inside", verdict="denied", host="*", protocol="other", rule="no-other",
               reason="several, too many to be told apart"),
     "another protocol to several places  several, too many to be told apart"),
    (AuditLine(time=0, sandbox_id="sb_1", via="proxy", verdict="allowed", host="*", sent_bytes=1, reason="several",
               repeated=9), "work  several places  several  1B out 0B in  and 9 more"),
])  # fmt: skip
def test_lines_of_the_log(line: AuditLine, shown: str) -> None:
    assert policyview.log_line(line, {"sb_1": "work"}, None).endswith(shown)
    assert "work" not in policyview.log_line(line, None, None)
    assert len(policyview.log_line(line, {}, 30)) <= 30


def test_a_preset_for_people() -> None:
    found = PresetInfo(name="x", summary="for x", way_out="uploads", rules=[RuleInfo(hosts=["a.example"])])
    assert " ".join("\n".join(policyview.preset(found)).split()) == (
        "preset x for for x rules a.example way out uploads"
    )


def test_what_was_refused_is_told_with_what_allows_it() -> None:
    denied = AuditLine(time=0, sandbox_id="s", via="dns", verdict="denied", host="a.example", port=443, rule="default")
    assert refusals.told([denied], ["*.example"], None) == (
        "cloche: the network policy refused a.example:443 (default); allow it with: --net '*.example'"
    )
    assert refusals.told([denied] * 5, ["a", "b"], "work").endswith(
        "a.example:443 (default) and 2 more; allow it with: cloche policy allow work a b"
    )
    near = msgspec.structs.replace(denied, rule="loopback address", reason="default does not open 127.0.0.1")
    assert "(loopback address: default does not open 127.0.0.1)" in refusals.told([near], [], None)
    closed = AuditLine(time=0, sandbox_id="s", via="", verdict="denied", host="x\x1b.example", rule="closed")
    inside = AuditLine(time=0, sandbox_id="sb_1", via="inside", verdict="denied", host="b.example", port=123,
                       protocol="udp", rule="no-udp", reason="UDP does not leave a sandbox")  # fmt: skip
    assert refusals.told([inside], [], None) == (
        "cloche: the network policy refused UDP to b.example:123 (UDP does not leave a sandbox)"
    )
    assert refusals.told([closed], [], None) == "cloche: the sandbox has no network, and refused x\\x1b.example"


def test_a_suggestion_as_a_file_is_a_policy_again(tmp_path: Path) -> None:
    found = SuggestionInfo(words=["pypi", "a.example"], tried=[Tried(host="a.example\n\x1b", port=443, count=2)])
    path = tmp_path / "policy.yaml"
    path.write_text(policy_command._yaml(found))
    assert policies.of_file(str(path)) == EgressPolicy(
        rules=[EgressRule(preset="pypi"), EgressRule(hosts=["a.example"])]
    )
    path.write_text(policy_command._yaml(SuggestionInfo(words=[])))
    assert policies.of_file(str(path)) == EgressPolicy()


def test_words_with_commas() -> None:
    assert policy_command._each(["pypi,npm", '{"hosts": ["a","b"]}', "x,"]) == [
        "pypi",
        "npm",
        '{"hosts": ["a","b"]}',
        "x",
    ]


@pytest.mark.parametrize(("argv", "parsed"), [
    (["work", "8000"], ["add", "work", "8000"]), (["--json", "work", "8000"], ["add", "--json", "work", "8000"]),
    (["ls"], ["ls"]), (["rm", "work", "1"], ["rm", "work", "1"]), (["--help"], ["--help"]),
])  # fmt: skip
def test_publish_means_add(argv: list[str], parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(click.Group, "parse_args", lambda self, ctx, args: seen.append(args) or [])
    publish.command.parse_args(click.Context(publish.command), argv)
    assert seen == [parsed]


def test_ports_are_checked_here() -> None:
    assert "99999" in CliRunner().invoke(publish.command, ["work", "99999"]).output


def test_a_secret_for_people() -> None:
    assert policyview.secret(Secret(name="A", hosts=["b.example"], headers=["X-Key"], places=["header"])) == (
        "A@b.example:header=X-Key"
    )


def test_only_words_for_what_was_refused_now_are_told() -> None:
    lines = [AuditLine(time=0, sandbox_id="sb_1", via="proxy", verdict="denied", host=host, port=443, rule="default")
             for host in ("a.example", "pypi.example")]  # fmt: skip
    assert refusals._of_these(["old.example", "a.example"], lines[:1]) == ["a.example"]
    assert refusals._of_these(["old.example", "npm", "a.example"], lines[:1]) == ["a.example"]
    assert refusals._of_these(["old.example", "pypi", "a.example"], lines) == ["pypi", "a.example"]


def test_what_no_policy_allows_is_named_in_short() -> None:
    tried = [Tried(host=f"h{number}.example", port=123, protocol="udp") for number in range(7)]
    assert policyview.places(tried[:1]) == "UDP to h0.example:123"
    assert policyview.places([Tried(host="a\x1b", protocol="icmp")]) == "ping to a\\x1b"
    assert policyview.places(tried).endswith("UDP to h4.example:123 and 2 more")
