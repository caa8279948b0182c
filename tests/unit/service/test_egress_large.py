"""Policies and secrets that fit into a message to the door fit into every later one of it, too."""

from __future__ import annotations

import msgspec
import pytest

from cloche.egress.messages import MAX_MESSAGE_BYTES, Attach, encode
from cloche.model.egress import EgressCounters, EgressPolicy, Secret
from cloche.model.errors import InvalidError
from cloche.model.sandbox import SandboxSpec
from cloche.service import egress_specs

pytestmark = pytest.mark.anyio
MOST = (1 << 63) - 1
NAMES = ["ONE", "TWO", "THREE"]
SECRETS = [Secret(name=name, hosts=["api.example.com"]) for name in NAMES]


async def test_what_is_too_large_is_refused_before_anything_is_made(place):
    spec = SandboxSpec(name="box", secrets=[*SECRETS, Secret(name="FOUR", hosts=["api.example.com"])])
    values = dict.fromkeys([*NAMES, "FOUR"], "v" * 65536)
    with pytest.raises(InvalidError, match="too large together"):
        await place.services.sandboxes.create(spec, session_secrets=values)
    assert place.door.attached == {}


async def test_what_just_fits_fits_later(place):
    made = await place.create("b" * 63, egress=EgressPolicy())
    most = await longest(place, made)
    given = place.services.egress._core.secrets.of(await place.store.get(made.id))
    assert most == len(given[2].value)
    later = Attach(id=MOST, sandbox_id=made.id, name=made.name, project_id="p" * 64, policy=EgressPolicy(),
                   secrets=given, socket="/" * 108, counters=all_at_their_most())  # fmt: skip
    assert MAX_MESSAGE_BYTES - egress_specs.ROOM_BYTES < len(encode(later)) <= MAX_MESSAGE_BYTES


async def longest(place, made) -> int:
    """The longest third value that is taken, beside two that are as long as values may be."""
    for secret in SECRETS[:2]:
        await place.services.egress.set_secret(made.id, secret.name, secret, "v" * 65536)
    low, high = 1, 65536
    while low < high:
        middle = (low + high + 1) // 2
        try:
            await place.services.egress.set_secret(made.id, NAMES[2], SECRETS[2], "v" * middle)
            low = middle
        except InvalidError:
            high = middle - 1
    await place.services.egress.set_secret(made.id, NAMES[2], SECRETS[2], "v" * low)
    return low


def all_at_their_most() -> EgressCounters:
    return msgspec.convert(dict.fromkeys(EgressCounters.__struct_fields__, MOST), EgressCounters)
