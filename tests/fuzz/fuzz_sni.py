"""Any bytes at the beginning of a connection: a hello, not yet one, none, or BadHelloError; never anything else."""

from __future__ import annotations

import sys
from pathlib import Path

from cloche.egress.tls.sni import BadHelloError, ClientHello, NeedMore

SEEDS = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "unit/egress/tls/hellos").glob("*.bin"))]


def fuzz(data: bytes) -> None:
    try:
        found = ClientHello.parse(data)
    except BadHelloError:
        return
    if isinstance(found, NeedMore):
        assert found.at_least > len(data)
    if isinstance(found, ClientHello):
        assert found.record_bytes <= len(data)
        assert ClientHello.parse(data[: found.record_bytes]) == found
        assert isinstance(ClientHello.parse(data[: found.record_bytes - 1]), NeedMore)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
