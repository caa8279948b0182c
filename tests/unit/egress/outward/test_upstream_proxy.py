from __future__ import annotations

import pytest

from cloche.egress.hooks import DialError
from cloche.egress.outward.upstream_proxy import Proxy, UpstreamProxies


def chosen(environment: dict[str, str], host: str = "a.test", port: int = 443, protocol: str = "tls") -> Proxy | None:
    return UpstreamProxies(environment).proxy_for(host, port, protocol)


def test_none() -> None:
    assert chosen({}) is None


@pytest.mark.parametrize(
    ("protocol", "port", "host"),
    [("tls", 443, "https"), ("tls", 8443, "https"), ("", 443, "https"), ("http", 80, "http"), ("tcp", 22, "all")],
)
def test_by_what_is_spoken(protocol: str, port: int, host: str) -> None:
    environment = {f"{name}_PROXY": f"http://{name.lower()}:1" for name in ("HTTP", "HTTPS", "ALL")}
    proxy = chosen(environment, port=port, protocol=protocol)
    assert proxy is not None and proxy.host == host


def test_one_for_all() -> None:
    assert chosen({"all_proxy": "proxy"}, protocol="http") == Proxy("proxy", 8080)


def test_lower_case_wins() -> None:
    assert chosen({"https_proxy": "low:1", "HTTPS_PROXY": "high:2"}) == Proxy("low", 1)


def test_with_a_password_that_nobody_prints() -> None:
    proxy = chosen({"HTTPS_PROXY": "http://me:p%40ss@proxy:3128"})
    assert proxy == Proxy("proxy", 3128, "Basic bWU6cEBzcw==")
    assert "bWU6" not in repr(proxy)


@pytest.mark.parametrize("url", ["socks5://proxy:1", "https://proxy", "http://", "http://proxy:99999", "http://[::1"])
def test_what_cannot_be_used_is_said(url: str) -> None:
    with pytest.raises(DialError, match="no http"):
        chosen({"HTTPS_PROXY": url})


@pytest.mark.parametrize(
    ("excluded", "host", "port", "directly"),
    [
        ("*", "a.test", 443, True),
        ("a.test", "a.test", 443, True),
        ("A.Test", "a.test", 443, True),
        ("a.test", "b.a.test", 443, True),
        (".a.test", "b.a.test", 443, True),
        ("*.a.test", "b.a.test", 443, True),
        ("a.test", "ba.test", 443, False),
        ("a.test:8443", "a.test", 443, False),
        ("a.test:8443", "a.test", 8443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "a.test", 443, False),
        ("::1", "::1", 443, True),
        ("fd00::/8", "fd00::1", 443, True),
        ("[::1]:443", "::1", 443, True),
        ("x, a.test ,y", "a.test", 443, True),
        (",,", "a.test", 443, False),
    ],
)
def test_excluded(excluded: str, host: str, port: int, directly: bool) -> None:
    found = chosen({"HTTPS_PROXY": "proxy:1", "NO_PROXY": excluded}, host, port)
    assert (found is None) is directly
