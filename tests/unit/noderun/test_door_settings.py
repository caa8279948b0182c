"""What the environment says of the door."""

from __future__ import annotations

import pytest

from cloche.model.errors import InvalidError
from cloche.noderun.settings import read_settings


def settings(**environ: str):
    return read_settings([], {"HOME": "/nowhere", **environ})


def test_by_default_the_machine_decides():
    found = settings()
    assert (found.resolver, found.upstream_ca, found.ingress_port) == (None, None, 0)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("127.0.0.1:5353", "127.0.0.1:5353"), ("127.0.0.1", "127.0.0.1:53"), ("[::1]:53", "[::1]:53"),
     ("::1", "[::1]:53")],
)  # fmt: skip
def test_a_resolver_is_an_address_and_a_port(said, meant):
    assert settings(CLOCHE_DNS=said).resolver == meant


@pytest.mark.parametrize("said", ["dns.example:53", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:x", ":53", "x"])
def test_what_is_no_resolver_is_refused(said):
    with pytest.raises(InvalidError) as wrong:
        settings(CLOCHE_DNS=said)
    assert wrong.value.details["field"] == "CLOCHE_DNS"


def test_a_file_of_authorities_must_be_there(tmp_path):
    with pytest.raises(InvalidError):
        settings(CLOCHE_UPSTREAM_CA=str(tmp_path / "none.pem"))
    (tmp_path / "ca.pem").touch()
    assert settings(CLOCHE_UPSTREAM_CA=str(tmp_path / "ca.pem")).upstream_ca == str(tmp_path / "ca.pem")


def test_the_ingress_port_is_a_port():
    assert settings(CLOCHE_INGRESS_PORT="8080").ingress_port == 8080
    for wrong in ("-1", "65536", "http"):
        with pytest.raises(InvalidError):
            settings(CLOCHE_INGRESS_PORT=wrong)
