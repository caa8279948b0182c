from __future__ import annotations

import asyncio
import socket

import pytest

from cloche.egress.hooks import DialError
from cloche.egress.outward.dial import MAX_ADDRESSES, dial, in_turn


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        (["1", "2"], ["1", "2"]),
        (["1", "2", "::1", "::2"], ["::1", "1", "::2", "2"]),
        (["1", "::1", "::2", "::3"], ["::1", "1", "::2", "::3"]),
        (["::1"], ["::1"]),
        ([], []),
    ],
)
def test_both_families_in_turn(addresses: list[str], order: list[str]) -> None:
    assert in_turn(addresses) == order


def test_not_all_of_very_many() -> None:
    assert len(in_turn([str(number) for number in range(100)])) == MAX_ADDRESSES


def test_the_first_that_answers() -> None:
    async def test(port: int) -> None:
        sock = await dial(["::1", "127.0.0.2", "127.0.0.1"], port)
        with sock:
            assert sock.getpeername()[0] == "127.0.0.1"
            assert not sock.getblocking()

    with socket.create_server(("127.0.0.1", 0)) as server:
        asyncio.run(test(server.getsockname()[1]))


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
def test_nobody_answers(addresses: list[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DialError, match="refused"):
            asyncio.run(dial(addresses, unused.getsockname()[1]))


def test_no_address() -> None:
    with pytest.raises(DialError, match="no address"):
        asyncio.run(dial([], 1))


def test_no_answer_in_time() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            port = server.getsockname()[1]
            waiting = []
            try:
                # a queue that is full answers nobody
                for _ in range(8):
                    sock = socket.socket()
                    sock.setblocking(False)
                    sock.connect_ex(("127.0.0.1", port))
                    waiting.append(sock)
                await dial(["127.0.0.1", "127.0.0.1"], port, 0.05)
            finally:
                for sock in waiting:
                    sock.close()

    with pytest.raises(DialError, match=r"within 0\.05 seconds"):
        asyncio.run(test())
