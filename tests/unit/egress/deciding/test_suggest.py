"""The smallest policy that would have allowed what was tried, from an audit log and from what a guest says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.egress.deciding import presets
from cloche.egress.deciding.policy import compile_policy
from cloche.egress.deciding.suggest import Tried, suggest
from cloche.model.egress import AuditLine
from cloche.model.egress_words import parse_policy

#: a host of a preset of which one alone is of little use
INDEX = presets.load("pypi").rules[0].hosts[0]


def line(host: str, port: int = 443, protocol: str = "tls", **more) -> AuditLine:
    fields = {"via": "proxy", "verdict": "denied", **more}
    return AuditLine(time=1.0, sandbox_id="sb_1", host=host, port=port, protocol=protocol, **fields)


def words(*lines: AuditLine, attempts: tuple[Tried, ...] = ()) -> list[str]:
    return suggest(lines, attempts).words


def test_nothing_tried_is_nothing_needed():
    assert suggest([]).words == []
    assert suggest([]).policy.default == "deny"


def test_hosts_and_ports():
    assert words(line("a.example"), line("a.example", 80, "http"), line("b.example", 22, "tcp")) == [
        "a.example",
        "b.example:22",
    ]


@pytest.mark.parametrize("verdict", ["denied", "allowed"])
def test_a_name_of_this_network_is_named_with_its_address(verdict):
    tried = [line("a.example", 443, "tls", verdict=verdict, address="10.0.0.1"),
             line("b.example", 443, "tls", verdict="denied", address="169.254.169.254")]  # fmt: skip
    assert words(*tried) == ["a.example@10.0.0.1"]


def test_ports_of_one_host_are_one_word():
    assert words(line("a.example", 8080), line("a.example", 22), line("a.example", 8080)) == ["a.example:22+8080"]


def test_raw_bytes_on_a_port_of_the_web_need_that_port():
    assert words(line("a.example", 443, "tcp")) == ["a.example:443"]


def test_the_most_frequent_comes_first():
    found = suggest([line("a.example"), line("b.example", repeated=9)])
    assert found.words == ["b.example", "a.example"]
    assert found.tried[0] == Tried(host="b.example", port=443, protocol="tls", count=10)


def test_a_preset_whose_hosts_were_tried_stands_for_them():
    assert words(line("deb.debian.org", 80, "http"), line("security.debian.org", 80, "http")) == ["apt"]
    assert words(line("github.com"), line("codeload.github.com"), line("a.example")) == ["github", "a.example"]
    assert words(line("github.com")) == ["github.com"]


def test_a_preset_that_is_of_no_use_in_part_is_named_for_one_of_its_hosts():
    assert words(line(INDEX)) == ["pypi"]


def test_a_preset_stands_for_no_port_that_it_has_not():
    assert words(line("github.com"), line("codeload.github.com"), line("github.com", 9418, "tcp")) == [
        "github",
        "github.com:9418",
    ]


def test_a_name_that_was_only_asked_for_is_a_host():
    assert words(line("a.example", 0, "", via="dns")) == ["a.example"]
    assert words(line("a.example", 0, "", via="dns"), line("a.example", 22, "tcp")) == ["a.example:22"]


def test_what_came_in_and_what_nothing_allows_is_left_out():
    assert (
        words(
            line("app.example", 8000, via="publish"),
            line("localhost", 80),
            line("169.254.169.254", 80),
            line("not a host"),
            line("*", 0),
            line("a.example", 99999),
        )
        == []
    )


def test_what_a_guest_says_counts_without_its_idea_of_protocols():
    tried = (Tried(host="A.Example.", port=443, protocol="tcp", count=3), Tried(host="b.example", protocol="dns"))
    assert words(attempts=tried) == ["a.example", "b.example"]


def test_a_guest_that_says_too_much_is_bounded():
    tried = [Tried(host=f"h{number}.example", port=443, count=1 << 70) for number in range(6000)]
    found = suggest([], tried)
    assert len(found.words) <= 256 and len(found.tried) <= 4096


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            Tried,
            host=st.one_of(
                st.sampled_from(["a.example", "x.a.example", "10.0.0.1", "::1", INDEX]), st.text(max_size=9)
            ),
            port=st.sampled_from([0, 22, 80, 443, 8080]),
            protocol=st.sampled_from(["", "tcp", "tls", "\0"]),
            count=st.integers(-5, 5),
        ),
        max_size=8,
    )
)
def test_a_suggestion_allows_what_was_tried(tried):
    found = suggest([], tried)
    if found.words:
        assert parse_policy(",".join(found.words)) == found.policy
    compiled = compile_policy(found.policy)
    for item in found.tried:
        assert item.count > 0
        assert item.port or compiled.may_resolve(item.host) or ":" in item.host or item.host[0].isdigit()


def test_what_no_policy_allows_is_told_and_not_suggested():
    lines = [line("ntp.example", 123, "udp", via="inside"), line("192.0.2.1", 0, "icmp", via="inside")]
    tried = (Tried(host="quic.example", port=443, protocol="udp", count=3), Tried(host="*", protocol="other"))
    found = suggest([*lines, line("ntp.example", 0, "", via="dns")], tried)
    assert found.words == []
    assert found.tried == [
        Tried(host="quic.example", port=443, protocol="udp", count=3),
        Tried(host="ntp.example", port=123, protocol="udp"),
        Tried(host="192.0.2.1", protocol="icmp"),
    ]


def test_a_name_that_is_also_sent_datagrams_is_suggested_for_its_connections():
    assert words(line("a.example", 443, "udp", via="inside"), line("a.example", 443)) == ["a.example"]
