"""Routes of what sandboxes may reach: policy, rules, secrets, questions to people, and the log of what was decided."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cloche.api.endpoint import Call, Endpoint, Nothing
from cloche.api.replies import Empty, Json, Reply
from cloche.egress.deciding.presets import Preset
from cloche.egress.deciding.suggest import Suggestion
from cloche.model.egress import (
    AskList,
    AuditPage,
    EgressPolicy,
    EgressRule,
    EgressState,
    Secret,
    Verdict,
)
from cloche.service.egress_log import LogQuery

MAX_LOG_LINES = 10_000


class PutPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """null: closed."""

    policy: EgressPolicy | None


class PutRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`position`: before which rule it is to stand; 0 is the first."""

    rule: EgressRule
    position: Annotated[int, Meta(ge=0, le=1000)] = 0


class RemoveRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rule as it stands in the policy; its note does not count."""

    rule: EgressRule


class PutSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`value` null: it is read from the secret's source, or it stays as it is."""

    secret: Secret
    value: str | None = None

    def __repr__(self) -> str:
        return f"PutSecret({self.secret.name})"


class AnswerAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    verdict: Verdict


class FindLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`sandbox`: id, name or unique prefix, also the whole id of a removed one; `since`: UTC seconds; `verdict`: one or
    more of allowed, denied, failed, limit, revoked, separated by commas; `limit`: the newest so many."""

    sandbox: str | None = None
    since: Annotated[float, Meta(ge=0)] | None = None
    verdict: str | None = None
    host: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LOG_LINES)] = 1000


class PresetList(msgspec.Struct, frozen=True, kw_only=True):
    """By name."""

    presets: list[Preset]


async def get_egress(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.egress.state(call.path["ref"]))


async def put_egress(call: Call[Nothing, PutPolicy]) -> Reply:
    return Json(await call.services.egress.set_policy(call.path["ref"], call.body.policy))


async def add_rule(call: Call[Nothing, PutRule]) -> Reply:
    return Json(await call.services.egress.add_rule(call.path["ref"], call.body.rule, call.body.position))


async def remove_rule(call: Call[Nothing, RemoveRule]) -> Reply:
    return Json(await call.services.egress.remove_rule(call.path["ref"], call.body.rule))


async def suggest_egress(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.egress_log.suggestion(call.path["ref"]))


async def put_secret(call: Call[Nothing, PutSecret]) -> Reply:
    asked = call.body
    done = await call.services.egress.set_secret(call.path["ref"], call.path["secret"], asked.secret, asked.value)
    return Json(done)


async def remove_secret(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.egress.remove_secret(call.path["ref"], call.path["secret"]))


async def find_asks(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.egress.asks(call.path["ref"]))


async def answer_ask(call: Call[Nothing, AnswerAsk]) -> Reply:
    await call.services.egress.answer(call.path["ref"], call.path["ask"], call.body.verdict)
    return Empty()


async def egress_log(call: Call[FindLog, None]) -> Reply:
    asked = call.query
    verdicts = tuple(asked.verdict.split(",")) if asked.verdict else ()
    query = LogQuery(sandbox=asked.sandbox, since=asked.since, verdicts=verdicts, host=asked.host, limit=asked.limit)
    return Json(await call.services.egress_log.find(query))


async def egress_presets(call: Call[Nothing, None]) -> Reply:
    return Json(PresetList(presets=call.services.egress_log.presets()))


_ONE = "/v1/sandboxes/{ref}/egress"
_LOOKS = ("not_found",)
_CHANGES = (
    "not_found", "wrong_state", "limit_hit", "unavailable_here", "engine_failed", "sandbox_dead", "guest_error",
    "timed_out", "no_space",
)  # fmt: skip

ENDPOINTS = (
    Endpoint(
        method="GET", path=_ONE, handler=get_egress, answer=EgressState, errors=_LOOKS, summary="What it may reach"
    ),
    Endpoint(
        method="PUT",
        path=_ONE,
        handler=put_egress,
        body=PutPolicy,
        answer=EgressState,
        errors=_CHANGES,
        summary="Put another policy in the place of the one it has, also for what is open already",
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/rules",
        handler=add_rule,
        body=PutRule,
        answer=EgressState,
        errors=_CHANGES,
        summary="Put one rule into its policy",
    ),
    Endpoint(
        method="DELETE",
        path=f"{_ONE}/rules",
        handler=remove_rule,
        body=RemoveRule,
        answer=EgressState,
        errors=_CHANGES,
        summary="Take one rule out of its policy",
    ),
    Endpoint(
        method="GET",
        path=f"{_ONE}/suggestion",
        handler=suggest_egress,
        answer=Suggestion,
        errors=_LOOKS,
        summary="The smallest policy that would have allowed what was tried",
    ),
    Endpoint(
        method="PUT",
        path=f"{_ONE}/secrets/{{secret}}",
        handler=put_secret,
        body=PutSecret,
        answer=EgressState,
        errors=_CHANGES,
        summary="Give it a secret, or a new value of one",
    ),
    Endpoint(
        method="DELETE",
        path=f"{_ONE}/secrets/{{secret}}",
        handler=remove_secret,
        answer=EgressState,
        errors=_CHANGES,
        summary="Take a secret from it",
    ),
    Endpoint(
        method="GET",
        path=f"{_ONE}/asks",
        handler=find_asks,
        answer=AskList,
        errors=_LOOKS,
        summary="Connections that wait for somebody's answer",
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/asks/{{ask}}",
        handler=answer_ask,
        body=AnswerAsk,
        status=204,
        errors=_CHANGES,
        summary="Let a connection that waits go on, or not",
    ),
    Endpoint(
        method="GET",
        path="/v1/audit/egress",
        handler=egress_log,
        query=FindLog,
        answer=AuditPage,
        errors=_LOOKS,
        summary="What became of connections and requests, oldest first",
    ),
    Endpoint(
        method="GET",
        path="/v1/egress/presets",
        handler=egress_presets,
        answer=PresetList,
        summary="Rules that have a name, by name",
    ),
)
