"""Which proxies a download goes through."""

from __future__ import annotations

import pytest

from cloche.engines.vm import proxies


def test_what_the_user_names_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://environment.example")
    options = {"proxy_http": "http://a.example", "proxy_no": "b.example", "suite": "x"}
    assert proxies.chosen(options) == {"http": "http://a.example", "no": "b.example"}
    assert proxies.chosen({"suite": "x"}) is None


def test_then_those_of_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies.urllib.request, "getproxies", dict)
    monkeypatch.setattr(proxies, "_apt_config", lambda: "http='http://apt.example:3142'\nhttps='DIRECT'\n")
    assert proxies.chosen({}) == {"http": "http://apt.example:3142"}


@pytest.mark.parametrize("said", ["", "http='", "http='DIRECT'", "http='false'", "odd='http://x.example'", "\0"])
def test_what_is_no_proxy(said: str) -> None:
    assert proxies.parse(said) == {}
