"""The calls for the inner end of the door: what goes over the wire, and that nothing impossible comes back from it."""

import json

import pytest

from cloche.guest_api import Guest
from cloche.guest_api.egress import EgressAttempt, EgressSetup
from cloche.model.errors import GuestError, InvalidError
from tests.unit.guest_api.scripted import Scripted, answer

pytestmark = pytest.mark.anyio
TRIED = {"host": "example.com", "port": 443, "protocol": "tcp", "count": 2, "last": 1.5}


async def test_what_is_not_said_is_not_sent(guest: Guest, scripted: Scripted) -> None:
    await guest.configure_egress(EgressSetup(mode="closed"))
    assert scripted.head.startswith(b"PUT /v1/egress ") and json.loads(scripted.body) == {"mode": "closed"}
    await guest.configure_egress(EgressSetup(mode="open", proxy_env=True, authority_pem="P", placeholders={"A": "b"}))
    assert json.loads(scripted.body) == {
        "mode": "open", "proxy_env": True, "authority_pem": "P", "placeholders": {"A": "b"}}  # fmt: skip


async def test_a_refusal_is_typed(guest: Guest, scripted: Scripted) -> None:
    scripted.answer = answer(422, {"error": {"code": "invalid", "message": "no", "details": {"field": "mode"}}})
    with pytest.raises(InvalidError):
        await guest.configure_egress(EgressSetup(mode="ajar"))


async def test_attempts(guest: Guest, scripted: Scripted) -> None:
    scripted.answer = answer(200, {"attempts": [TRIED], "listeners": [], "attached": False})
    assert await guest.egress_attempts() == [EgressAttempt(host="example.com", port=443, count=2, last=1.5)]


@pytest.mark.parametrize("attempts", [
    [TRIED] * 257, [TRIED | {"host": ""}], [TRIED | {"host": "x" * 254}], [TRIED | {"port": -1}],
    [TRIED | {"port": 65536}], [TRIED | {"protocol": "x"}], [TRIED | {"count": -1}], [TRIED | {"last": 1e300}],
    [TRIED | {"last": "soon"}], {}, None, [[]],
])  # fmt: skip
async def test_impossible_attempts(guest: Guest, scripted: Scripted, attempts: object) -> None:
    scripted.answer = answer(200, {"attempts": attempts})
    with pytest.raises(GuestError):
        await guest.egress_attempts()


@pytest.mark.parametrize("said", [True, False, None])
async def test_health_says_whether_connections_are_redirected(
    guest: Guest, scripted: Scripted, said: bool | None
) -> None:
    health = {"api_version": 1, "guest_version": "x", "sandbox_id": "sb", "nonce": "n"}
    scripted.answer = answer(200, health if said is None else health | {"transparent_tcp": said})
    assert (await guest.health()).transparent_tcp is bool(said)
