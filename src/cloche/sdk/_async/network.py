"""What a sandbox may reach, and who may reach it: its policy, its secrets, its published ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from cloche.model.egress import (
    Ask,
    AskList,
    AuditLine,
    EgressRule,
    Publication,
    PublicationList,
    Secret,
    Verdict,
)
from cloche.sdk import egress_options, wire
from cloche.sdk._async.handle import AsyncHandle
from cloche.sdk.egress_options import Net
from cloche.sdk.egress_values import EgressInfo, SuggestionInfo

T = TypeVar("T")


class AsyncNetwork(AsyncHandle):
    """The part of a sandbox that is its network. Changes hold at once, for connections that are open too."""

    async def egress(self) -> EgressInfo:
        """Its policy, its secrets (never their values), whether the door works, and what went through it."""
        return await self._asked("GET", "", EgressInfo)

    async def set_policy(self, net: Net) -> EgressInfo:
        """Put another policy in the place of the one it has: words such as "pypi,api.example.com", an EgressPolicy, or
        None: closed. Raises InvalidError naming the word or field that is wrong."""
        policy = egress_options.policy(net)
        return await self._asked("PUT", "", EgressInfo, {"policy": msgspec.to_builtins(policy)})

    async def allow(self, *words: str | EgressRule) -> EgressInfo:
        """Let it reach these too, before all that its policy says: hosts, presets, anything that a policy's words may
        be. One that is closed gets a policy of its own by that. Raises InvalidError."""
        return await self._with_rules([egress_options.rule(word, "allow") for word in words])

    async def deny(self, *words: str | EgressRule) -> EgressInfo:
        """Let it not reach these, before all that its policy says. Raises InvalidError."""
        return await self._with_rules([egress_options.rule(word, "deny") for word in words])

    async def suggest_policy(self) -> SuggestionInfo:
        """The smallest policy that would have allowed what was tried in it and refused, and what it has already."""
        return await self._asked("GET", "/suggestion", SuggestionInfo)

    async def egress_log(
        self, *, since: float | None = None, verdicts: Sequence[str] = (), host: str | None = None, limit: int = 1000
    ) -> list[AuditLine]:
        """What became of its connections and requests: the newest `limit`, oldest first. `since`: UTC seconds;
        `verdicts`: of "allowed", "denied", "failed", "limit", "revoked"."""
        page = await self._node.egress_log(sandbox=self.id, since=since, verdicts=verdicts, host=host, limit=limit)
        return page.lines

    async def asks(self) -> list[Ask]:
        """Connections that wait for an answer, because a rule of the policy says ask."""
        return (await self._asked("GET", "/asks", AskList)).asks

    async def new_asks(self, *, since: float | None = None) -> AsyncIterator[Ask]:
        """Those that come from now on, or came `since` (UTC seconds), until it is removed."""
        kinds, begin = ("sandbox.egress_ask", "sandbox.removed"), 0 if since is None else None
        told = self._node.events(sandbox=self.id, kinds=kinds, follow=True, since=since, limit=begin)
        async for event in told:
            if event.kind == "sandbox.removed":
                return
            yield msgspec.convert({**event.data, "sandbox_id": self.id}, Ask)

    async def answer(self, ask: Ask | str, verdict: Verdict) -> None:
        """Let a connection go on ("once"), all of its kind from now on ("always"), or none ("deny"). Raises
        NotFoundError when nobody waits for it any more."""
        ask_id = ask if isinstance(ask, str) else ask.id
        path = f"{self._path}/egress/asks/{wire.segment(ask_id)}"
        await self._transport.ask("POST", path, json={"verdict": verdict})

    async def give_secret(self, secret: str | Secret, value: str | None = None) -> EgressInfo:
        """Add a secret, or give a new value to one that it has: "GITHUB_TOKEN@api.github.com". Without `value` it is
        read from where the words say, by default from this program's environment. Raises InvalidError."""
        given = [secret if value is None else (secret, value)]
        (known,) = egress_options.secrets(given)
        body = {"secret": msgspec.to_builtins(known), "value": egress_options.values(given).get(known.name)}
        return await self._asked("PUT", f"/secrets/{wire.segment(known.name)}", EgressInfo, body)

    async def remove_secret(self, name: str) -> EgressInfo:
        """Take a secret from it. Raises NotFoundError."""
        return await self._asked("DELETE", f"/secrets/{wire.segment(name)}", EgressInfo)

    async def publish(self, port: int, *, any_host: bool | None = None) -> Publication:
        """Let this machine reach a port of it: `url` for HTTP and WebSockets, `address` for anything over TCP. Only
        from this machine. Nothing needs to listen yet; once more gives the same again. `any_host`: at the address HTTP
        is answered for whatever host, else for addresses and names below localhost alone; None leaves it."""
        body = {} if any_host is None else {"any_host": any_host}
        return wire.decode(await self._transport.ask("PUT", f"{self._path}/ports/{port}", json=body), Publication)

    async def publications(self) -> list[Publication]:
        """Ports of it that this machine can reach."""
        return wire.decode(await self._transport.ask("GET", f"{self._path}/ports"), PublicationList).publications

    async def unpublish(self, port: int) -> None:
        """End that, and the connections to it. Raises NotFoundError."""
        await self._transport.ask("DELETE", f"{self._path}/ports/{port}")

    async def _with_rules(self, rules: list[EgressRule]) -> EgressInfo:
        """Each is put in front, so the last one goes first."""
        for rule in reversed(rules):
            await self._transport.ask(
                "POST", f"{self._path}/egress/rules", json={"rule": msgspec.to_builtins(rule), "position": 0}
            )
        return await self.egress()

    async def _asked(self, method: str, rest: str, kind: type[T], body: object = None) -> T:
        return wire.decode(await self._transport.ask(method, f"{self._path}/egress{rest}", json=body), kind)
