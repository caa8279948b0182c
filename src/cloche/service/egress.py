"""Policies, rules and secrets of sandboxes that are there already, and the questions that the door asks.

A change is written first: whoever dies in the middle leaves a row that the next node opens the sandbox by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from cloche.model import egress_checks
from cloche.model.egress import AskList, EgressPolicy, EgressRule, EgressState, Secret, Verdict
from cloche.model.errors import InvalidError, NotFoundError
from cloche.model.events import DEFAULT_PROJECT
from cloche.model.lifecycle import require
from cloche.model.sandbox import SandboxRecord, SandboxSpec
from cloche.service import egress_rules, egress_specs
from cloche.service.core import Core
from cloche.service.egress_events import EgressEvents
from cloche.service.ports import Door
from cloche.service.secret_values import replaced
from cloche.service.steps import to_the_end
from cloche.service.teardown import ALIVE

Change = Callable[[SandboxSpec], SandboxSpec]


class EgressService:
    """`ref` is an id, a name, or a unique prefix of an id. All raise NotFoundError for an unknown `ref` and
    InvalidError for an ambiguous one; those that change something WrongStateError for a sandbox that is being made or
    has failed, UnavailableError when the door cannot be started, InvalidError naming the field."""

    def __init__(self, core: Core, door: Door, events: EgressEvents) -> None:
        self._core, self._door, self._events = core, door, events

    async def state(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> EgressState:
        return await self._state(await self._core.resolve(project_id, ref))

    async def set_policy(
        self, ref: str, policy: EgressPolicy | None, *, project_id: str = DEFAULT_PROJECT
    ) -> EgressState:
        """None: closed. What is open is decided again, and ended where it is not allowed any more."""
        if policy is not None:
            egress_checks.check_policy(policy)
        return await self._changed(project_id, ref, lambda spec: msgspec.structs.replace(spec, egress=policy))

    async def add_rule(
        self, ref: str, rule: EgressRule, position: int = 0, *, project_id: str = DEFAULT_PROJECT
    ) -> EgressState:
        """One that is closed gets a policy of this rule, unless that denies."""
        egress_checks.check_rule(rule)

        def change(spec: SandboxSpec) -> SandboxSpec:
            return msgspec.structs.replace(spec, egress=egress_rules.with_rule(spec.egress, rule, position))

        return await self._changed(project_id, ref, change)

    async def remove_rule(self, ref: str, rule: EgressRule, *, project_id: str = DEFAULT_PROJECT) -> EgressState:
        """Raises NotFoundError also when its policy has no such rule."""

        def change(spec: SandboxSpec) -> SandboxSpec:
            return msgspec.structs.replace(spec, egress=egress_rules.without_rule(spec.egress, rule))

        return await self._changed(project_id, ref, change)

    async def set_secret(
        self, ref: str, name: str, secret: Secret, value: str | None, *, project_id: str = DEFAULT_PROJECT
    ) -> EgressState:
        """A new one, or one of that name anew; the code goes on with the placeholder that it has. A closed sandbox may
        reach the secret's hosts from now on, and nothing else."""
        if secret.name != name:
            raise InvalidError(f"the path names secret {name[:64]!r} and the body {secret.name[:64]!r}", field="name")
        egress_checks.check_secrets([secret])
        if value is not None and not secret.source.is_client:
            raise InvalidError("a secret that is read from a source takes no value", field="value")

        def change(spec: SandboxSpec) -> SandboxSpec:
            known = name in {each.name for each in spec.secrets}
            if value is None and secret.source.is_client and not known:
                raise InvalidError(f"secret {name} has no source, so it needs a value", field="value")
            changed = msgspec.structs.replace(spec, secrets=replaced(spec.secrets, secret))
            egress_checks.check_secrets(changed.secrets)
            return egress_specs.with_door(changed, closed=False)

        return await self._changed(project_id, ref, change, {} if value is None else {name: value})

    async def remove_secret(self, ref: str, name: str, *, project_id: str = DEFAULT_PROJECT) -> EgressState:
        """Raises NotFoundError also when it has no such secret."""

        def change(spec: SandboxSpec) -> SandboxSpec:
            kept = [secret for secret in spec.secrets if secret.name != name]
            if len(kept) == len(spec.secrets):
                raise NotFoundError(f"there is no secret {name[:64]!r}", remedy=f"cloche policy show {ref}")
            return msgspec.structs.replace(spec, secrets=kept)

        return await self._changed(project_id, ref, change)

    async def asks(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> AskList:
        record = await self._core.resolve(project_id, ref)
        return AskList(asks=self._events.asks.of(record.sandbox.id, self._core.clock.now()))

    async def answer(self, ref: str, ask_id: str, verdict: Verdict, *, project_id: str = DEFAULT_PROJECT) -> None:
        """ "always" puts a rule in front of the policy too. Raises NotFoundError when nobody waits for it any more."""
        record = await self._core.resolve(project_id, ref)
        ask = self._events.asks.take(record.sandbox.id, ask_id, self._core.clock.now())
        if ask is None:
            raise NotFoundError("nobody waits for this answer any more", remedy=f"cloche policy asks {ref}")
        # whoever waits goes on first: the rule is for those that come
        await self._door.answer(ask_id, verdict)
        if verdict == "always":
            decided = await asyncio.to_thread(egress_rules.asking, record.sandbox.spec, ask)
            await self.add_rule(record.sandbox.id, egress_rules.allowing(ask, decided), project_id=project_id)

    async def _changed(
        self, project_id: str, ref: str, change: Change, values: Mapping[str, str] | None = None
    ) -> EgressState:
        sandbox_id = (await self._core.resolve(project_id, ref)).sandbox.id

        async def whole() -> EgressState:
            record = await self._fresh(sandbox_id, ref)
            require("policy", record.sandbox.state, ref)
            return await self._state(await self._apply(record, change(record.sandbox.spec), values or {}))

        async with self._core.locks.hold(sandbox_id):
            return await to_the_end(whole())

    async def _fresh(self, sandbox_id: str, ref: str) -> SandboxRecord:
        record = await self._core.store.get(sandbox_id)
        if record is None:
            raise NotFoundError(f"there is no sandbox {ref!r} any more")
        return record

    async def _apply(self, record: SandboxRecord, spec: SandboxSpec, values: Mapping[str, str]) -> SandboxRecord:
        core, before = self._core, record.sandbox
        if spec == before.spec and not values:
            return record
        await asyncio.to_thread(egress_specs.require_usable, spec)
        planned = msgspec.structs.replace(record, sandbox=msgspec.structs.replace(before, spec=spec))
        sources = spec.secrets != before.spec.secrets
        alive = before.state in ALIVE
        if alive and spec.egress is not None:
            # nothing is changed while nobody could carry it out
            await core.door.ready(record)
        core.secrets.give(planned, values)
        egress_specs.require_small(before.id, spec.egress, core.secrets.of(planned))
        event = core.event(record, "egress_changed", **_told(spec))
        changed = await core.store.transition(
            before.id, frozenset({before.state}), before.state, event=event, spec=spec
        )
        await core.reached("policy.row_written")
        if alive:
            if sources:
                await core.secrets.read(changed)
            await core.door.change(changed)
        await core.reached("policy.committed")
        return changed

    async def _state(self, record: SandboxRecord) -> EgressState:
        core, sandbox = self._core, record.sandbox
        capabilities = await core.boxes.engine(record).capabilities()
        return EgressState(
            policy=sandbox.spec.egress, secrets=sandbox.spec.secrets, door=self._is(record),
            transparent_tcp=capabilities.transparent_tcp, counters=await core.door.counters(sandbox.id),
            missing_secrets=core.secrets.missing(record),
        )  # fmt: skip

    def _is(self, record: SandboxRecord) -> str:
        sandbox = record.sandbox
        if sandbox.spec.egress is None or sandbox.state not in ALIVE:
            return "closed"
        works = self._door.state == "up" and self._core.door.is_open(sandbox.id)
        return "open" if works else "down"


def _told(spec: SandboxSpec) -> dict[str, object]:
    """Of a policy, for an event: no more than fits into one."""
    policy = spec.egress
    secrets = [secret.name for secret in spec.secrets]
    return {
        "policy": None if policy is None else {"default": policy.default, "rules": len(policy.rules)},
        "secrets": secrets or None,
    }
