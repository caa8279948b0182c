"""Calls that only a guest with its own kernel answers: what goes over the wire, and what its refusals become."""

import base64
import json

import pytest

from cloche.guest_api import Guest, Wake
from cloche.model.errors import InvalidError, UnavailableError, WrongStateError
from tests.unit.guest_api.scripted import Scripted, answer

pytestmark = pytest.mark.anyio
AWAKE = Wake(sandbox_id="sb_1", nonce="n", hostname="h", machine_id="0" * 32, time=1.5, entropy=bytes(range(64)),
             forked=True, memory_mib=256, pids=10, cpus=0.5)  # fmt: skip


async def test_freeze_and_thaw_are_requests_without_a_body(guest: Guest, scripted: Scripted) -> None:
    await guest.freeze()
    assert scripted.head.startswith(b"POST /v1/freeze ") and not scripted.body
    await guest.thaw()
    assert scripted.head.startswith(b"POST /v1/thaw ") and not scripted.body


async def test_waking_says_everything_and_entropy_as_base64(guest: Guest, scripted: Scripted) -> None:
    await guest.wake(AWAKE)
    body = json.loads(scripted.body)
    assert base64.b64decode(body.pop("entropy")) == bytes(range(64))
    assert body == {"sandbox_id": "sb_1", "nonce": "n", "hostname": "h", "machine_id": "0" * 32, "time": 1.5,
                    "forked": True, "memory_mib": 256, "pids": 10, "cpus": 0.5}  # fmt: skip


async def test_too_little_entropy_is_never_sent(guest: Guest, scripted: Scripted) -> None:
    with pytest.raises(InvalidError):
        await guest.wake(Wake(**{f: getattr(AWAKE, f) for f in AWAKE.__struct_fields__} | {"entropy": b"x"}))
    assert not scripted.head


@pytest.mark.parametrize(("status", "code", "kind"), [
    (501, "unavailable_here", UnavailableError), (409, "wrong_state", WrongStateError),
])  # fmt: skip
async def test_refusals(guest: Guest, scripted: Scripted, status: int, code: str, kind: type[Exception]) -> None:
    scripted.answer = answer(status, {"error": {"code": code, "message": "no"}})
    with pytest.raises(kind):
        await guest.freeze()
