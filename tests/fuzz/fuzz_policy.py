"""Fuzzes words of policies, and what is decided by them: `python tests/fuzz/fuzz_policy.py -runs=20000`."""

from __future__ import annotations

import sys

from cloche.egress.deciding.names import read_host
from cloche.egress.deciding.policy import Attempt, Undecided, compile_policy
from cloche.model.egress_words import parse_policy, policy_words
from cloche.model.errors import InvalidError

SEEDS = [
    b"pypi,!*.example.com:22,allow\0a.example.com\0/a",
    b"GET+HEAD https://a.example/v1/**,ask\0a.example\0/v1/../v2",
    b'{"hosts": ["a.example"], "cidrs": ["10.0.0.0/8"]}\x0010.0.0.1\0/',
    b"db.example:5432@[fd00::/8]+10.0.0.0/8\0db.example\0/%2e%2e",
]


def fuzz(data: bytes) -> None:
    words, _, rest = data.decode("utf-8", "replace").partition("\0")
    host, _, path = rest.partition("\0")
    try:
        policy = parse_policy(words)
        assert parse_policy(policy_words(policy)) == policy
        if policy is None:
            return
        compiled = compile_policy(policy)
    except InvalidError:
        return
    try:
        read = read_host(host)
    except ValueError:
        return
    known = {"host": read.text, "is_address": read.is_address, "port": 443}
    first = compiled.decide(Attempt(**known))
    last = compiled.decide(Attempt(**known, address="1.1.1.1", protocol="tls", method="GET", path=path))
    assert not isinstance(last, Undecided)
    assert isinstance(first, Undecided) or first.action == last.action
    assert read.is_address or compiled.may_resolve(read.text) or last.action == "deny"


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
