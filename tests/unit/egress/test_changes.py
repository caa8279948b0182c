"""A policy that changes while a connection is on its way: whichever moment it is, what it denies is not carried."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from cloche.egress.inner import entrance
from cloche.egress.inner.attached import MAX_LOOKUPS
from cloche.egress.inner.guest_words import Resolve
from cloche.egress.inner.questions import Questions
from cloche.model.egress import EgressPolicy, EgressRule
from tests.unit.egress.change_world import (
    GET,
    GET_BY_PROXY,
    QUIET_TURNS,
    Asking,
    Scene,
    changed_at,
    connecting,
    policy,
    scene,
    turns,
)

OPEN = policy("up.test:80@127.0.0.0/8")
ASKINGS = {
    "raw bytes": Asking("redirect", b"\0\1\2 no protocol"),
    "request": Asking("redirect", GET),
    "request by SOCKS": Asking("socks", GET),
    "request by proxy": Asking("proxy", GET_BY_PROXY),
    "greeted": Asking("socks", b"", greeting=b"220 hello\r\n"),
}
TLS_ONLY = EgressPolicy(rules=[EgressRule(hosts=["up.test"], protocols=["tls"], addresses=["127.0.0.0/8"])])
DENIALS = {
    "closed": None,
    "deny": policy("deny"),
    "address": policy("!127.0.0.0/8,up.test:80@127.0.0.0/8"),
    "protocol": TLS_ONLY,
}
NO_DELETE = EgressPolicy(
    rules=[EgressRule(action="deny", hosts=["up.test"], methods=["DELETE"]), *(OPEN.rules if OPEN else [])]
)
WIDER = policy("up.test:80@127.0.0.0/8,other.test")
#: more than any of them takes to reach its site
TURNS = 60


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    """A refusal waits for the first bytes, to be readable: here they have come, or never do."""
    monkeypatch.setattr(entrance, "FIRST_BYTES_SECONDS", 0.0)


@pytest.mark.parametrize("denial", DENIALS)
@pytest.mark.parametrize("asking", ASKINGS)
def test_what_is_denied_is_not_carried_whenever_the_change_comes(asking, denial):
    survived = []
    for turn in range(TURNS):
        here = asyncio.run(changed_at(turn, ASKINGS[asking], OPEN, becomes(DENIALS[denial])))
        if b"answer" in here.said:
            survived.append(turn)
    assert not survived


@pytest.mark.parametrize("asking", ASKINGS)
def test_what_stays_allowed_is_carried_whenever_the_change_comes(asking):
    for turn in range(TURNS):
        here = asyncio.run(changed_at(turn, ASKINGS[asking], OPEN, becomes(WIDER)))
        assert b"answer" in here.said


@pytest.mark.parametrize("asking", ["request", "request by SOCKS", "request by proxy"])
def test_a_request_that_sites_may_take_for_what_is_denied_is_not_carried(asking):
    by = ASKINGS[asking]
    by = Asking(by.via, by.says.replace(b"Host:", b"X-HTTP-Method-Override: DELETE\r\nHost:"))
    survived = []
    for turn in range(TURNS):
        here = asyncio.run(changed_at(turn, by, OPEN, becomes(NO_DELETE)))
        if b"answer" in here.said:
            survived.append(turn)
    assert not survived


@pytest.mark.parametrize("words", ["peer.sandbox", "peer.sandbox:80"])
@pytest.mark.parametrize("asking", ["request", "request by SOCKS", "request by proxy"])
def test_a_neighbour_that_accepts_nobody_any_more_is_not_reached(asking, words):
    by = ASKINGS[asking]
    by = Asking(by.via, by.says.replace(b"up.test", b"peer.sandbox"), host="peer.sandbox")
    survived = []
    for turn in range(TURNS):
        here = asyncio.run(changed_at(turn, by, policy(words), turned_away))
        if b"answer" in here.said:
            survived.append(turn)
    assert not survived


@pytest.mark.parametrize("kind", ["connection", "name"])
def test_names_that_wait_to_be_looked_up_are_decided_again(kind):
    asked = asyncio.run(looked_up_after_a_denial(kind))
    assert asked == []


def becomes(after: EgressPolicy | None):
    return lambda here: here.attached.set_policy(after, [])


def turned_away(here: Scene) -> None:
    here.peer.is_open = False
    for connection in list(here.attached.connections):
        connection.review_neighbour()


async def looked_up_after_a_denial(kind: str) -> list[str]:
    """Names that somebody was asked for, when all lookups of a sandbox were taken as its policy became another."""
    here = scene(OPEN, ASKINGS["request"])
    for _ in range(MAX_LOOKUPS):
        await here.attached.lookups.acquire()
    asking = connecting(here, ASKINGS["request"]) if kind == "connection" else resolving(here)
    async with asking:
        await turns(QUIET_TURNS)
        here.attached.set_policy(policy("deny"), [])
        for _ in range(MAX_LOOKUPS):
            here.attached.lookups.release()
    return here.names.asked


@contextlib.asynccontextmanager
async def resolving(here: Scene):
    said: list[object] = []

    async def say(word: object) -> None:
        said.append(word)

    questions = Questions(here.attached, say)
    await questions.heard(Resolve(id=1, name="up.test"))
    yield
    await turns(QUIET_TURNS)
    assert [word.verdict for word in said] == ["no"]
    here.attached.close()
