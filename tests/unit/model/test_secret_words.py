"""Secrets as people type them: never with a value, and never for too many hosts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.model.egress import Secret, SecretSource
from cloche.model.egress_checks import check_secrets
from cloche.model.errors import InvalidError
from cloche.model.secret_words import parse_secret, secret_words

API = ["api.example.com"]
WORDS = [
    ("TOKEN@api.example.com", Secret(name="TOKEN", hosts=API), "TOKEN"),
    (
        "TOKEN=env:OTHER@api.example.com",
        Secret(name="TOKEN", hosts=API, source=SecretSource(variable="OTHER")),
        "OTHER",
    ),
    ("T@A.example,*.b.example", Secret(name="T", hosts=["a.example", "*.b.example"]), "T"),
    (
        "T=file:/run/key@home@api.example.com",
        Secret(name="T", hosts=API, source=SecretSource(file="/run/key@home")),
        None,
    ),
    ("T=keyring:svc/me@api.example.com", Secret(name="T", hosts=API, source=SecretSource(keyring="svc/me")), None),
    (
        "T=cmd:pass show 'a b'@api.example.com",
        Secret(name="T", hosts=API, source=SecretSource(command=["pass", "show", "a b"])),
        None,
    ),
    (
        "T@api.example.com:header=X-Api-Key:header=X-Other",
        Secret(name="T", hosts=API, places=["header"], headers=["X-Api-Key", "X-Other"]),
        "T",
    ),
    ("T@api.example.com:basic:query", Secret(name="T", hosts=API, places=["basic", "query"]), "T"),
    ("T@api.example.com:header:body", Secret(name="T", hosts=API, places=["header", "body"]), "T"),
]


@pytest.mark.parametrize(("text", "secret", "variable"), WORDS)
def test_words(text, secret, variable):
    assert parse_secret(text) == parse_secret(secret_words(secret)) == (secret, variable)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "T",
        "@a.example",
        "T@",
        "T=abc@a.example",
        "T=env:9@a.example",
        "T=env:@a.example",
        "9T@a.example",
        "T-X@a.example",
        "T@*",
        "T@*.com",
        "T@**.com",
        "T@1.2.3.4",
        "T@a.example:443",
        "T@a.example:body=x",
        "T@a.example:header=",
        "T@a.example:header=Host",
        "T@a.example:header=A b",
        "T=file:key@a.example",
        "T=file:@a.example",
        "T=keyring:svc@a.example",
        "T=keyring:/me@a.example",
        "T=cmd:@a.example",
        "T=cmd:a 'b@a.example",
        "T@https://a.example",
    ],
)
def test_what_is_no_secret_is_refused(text):
    with pytest.raises(InvalidError):
        parse_secret(text)


def test_a_value_that_somebody_typed_is_not_repeated():
    with pytest.raises(InvalidError) as failure:
        parse_secret("TOKEN=hunter2secret@a.example")
    assert "hunter2" not in str(failure.value.to_json())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"hosts": []}, "hosts"),
        ({"hosts": ["*.com"]}, "hosts"),
        ({"hosts": [f"h{i}.example" for i in range(65)]}, "hosts"),
        ({"source": SecretSource(file="/a", keyring="a/b")}, "source"),
        ({"source": SecretSource(command=[])}, "source.command"),
        ({"source": SecretSource(variable="A B")}, "source.variable"),
        ({"source": SecretSource(command=["a\0"])}, "source.command"),
        ({"places": []}, "places"),
        ({"places": ["header", "header"]}, "places"),
        ({"places": ["cookie"]}, "places"),
        ({"places": ["query"], "headers": ["X-A"]}, "headers"),
        ({"headers": ["Content-Length"]}, "headers"),
        ({"placeholder": "chosen"}, "placeholder"),
    ],
    ids=str,
)
def test_the_field_is_named(fields, field):
    with pytest.raises(InvalidError) as failure:
        check_secrets([Secret(**{"name": "A", "hosts": ["a.example"], **fields})])
    assert failure.value.details["field"] == f"secrets[0].{field}"


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="AT=@:.,/env:file cmd'\"*\0-", max_size=40)))
def test_any_text_is_a_secret_or_a_reason(text):
    try:
        secret, _ = parse_secret(text)
    except InvalidError:
        return
    assert parse_secret(secret_words(secret)).secret == secret
