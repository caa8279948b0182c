"""Fuzzes the reading of hosts: `python tests/fuzz/fuzz_names.py -runs=20000`."""

from __future__ import annotations

import sys

from cloche.egress.deciding import names, ranges

SEEDS = [
    b"example.com",
    b"[::ffff:127.0.0.1]",
    b"0x7f.1",
    "b\u00fccher\u3002example".encode(),
    b"xn--bcher-kva.example",
]


def fuzz(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        host = names.read_host(text)
    except ValueError:
        names.is_address(text)
        return
    assert names.read_host(host.text) == host
    assert host.text.isascii() and 0 < len(host.text) <= names.MAX_NAME
    assert names.is_address(host.text) is host.is_address
    if host.is_address:
        assert ranges.forbidden(host.text) != "no address"


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
