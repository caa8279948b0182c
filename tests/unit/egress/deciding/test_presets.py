"""Presets are data: every one can be read, says what it is for, and allows no more than hosts."""

from __future__ import annotations

import pytest

from cloche.egress.deciding import presets
from cloche.egress.deciding.policy import compile_policy
from cloche.model.egress import EgressPolicy, EgressRule
from cloche.model.errors import InvalidError

WANTED = {
    "alpine",
    "apt",
    "conda",
    "crates",
    "debian",
    "docker-hub",
    "github",
    "gitlab",
    "golang",
    "huggingface",
    "llm-apis",
    "maven",
    "nodejs",
    "npm",
    "playwright",
    "pypi",
    "rubygems",
    "ubuntu",
}


def test_they_are_all_there():
    assert set(presets.names()) >= WANTED
    assert list(presets.names()) == sorted(presets.names())


@pytest.mark.parametrize("name", presets.names())
def test_each_can_be_used_and_says_what_it_means(name):
    preset = presets.load(name)
    assert preset.summary and preset.way_out and preset.rules
    for rule in preset.rules:
        assert rule.note, "why is this host here?"
        assert rule.hosts and not rule.addresses and not rule.encrypted_hello
        assert "*" not in rule.hosts
        assert all(host.count(".") >= 2 for host in rule.hosts if "*" in host)
    compile_policy(EgressPolicy(rules=[EgressRule(preset=name)]))


@pytest.mark.parametrize("name", presets.names())
def test_a_host_that_everybody_shares_is_held_to_its_paths(name):
    shared = ("storage.googleapis.com", "s3.amazonaws.com", "blob.core.windows.net")
    for rule in presets.load(name).rules:
        assert rule.paths or not set(shared) & set(rule.hosts)


@pytest.mark.parametrize("name", ["", "nonsense", "../pypi", "__init__", "Pypi", "pypi.toml", "a" * 100])
def test_an_unknown_one_is_refused_with_those_that_are_there(name):
    with pytest.raises(InvalidError) as failure:
        presets.load(name)
    assert "pypi" in (failure.value.remedy or "")


@pytest.mark.parametrize(
    "text",
    [
        "summary = 1",
        'summary = ""\nway_out = ""\n[[rule]]\nhosts = ["1.2.3.4"]',
        'summary = ""\nway_out = ""\n[[rule]]\nhost = ["a.example"]',
        'summary = ""\nway_out = ""\n[[rule]]\naction = "deny"',
        'summary = ""\nway_out = ""\n[[rule]]\npreset = "pypi"',
        'summary = ""\nway_out = ""\nmore = 1',
        "[[",
    ],
)
def test_a_file_that_is_no_preset_is_refused(text):
    with pytest.raises((InvalidError, ValueError)):
        presets.read_preset("x", text)


@pytest.mark.parametrize(
    ("name", "said"),
    [("pypii", "did you mean pypi?"), ("debain", "did you mean debian?"), ("zzz", "one of alpine, apt")],
)
def test_who_misspells_one_is_told_what_is_near(name, said):
    with pytest.raises(InvalidError, match=f"there is no preset '{name}'") as raised:
        compile_policy(EgressPolicy(rules=[EgressRule(preset=name)]))
    assert raised.value.remedy.startswith(said)
    assert f"{name}.com" in raised.value.remedy
    assert raised.value.details["field"] == "egress.rules[0].preset"
