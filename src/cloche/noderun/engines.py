"""The engines of one node: made when first asked for, surveyed once, and the choice that "auto" stands for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec

from cloche.engines import registry
from cloche.engines.base import Capabilities, Check, Engine
from cloche.model.errors import ClocheError, InvalidError
from cloche.model.sandbox import Isolation

#: exists for tests only: shown by doctor when it is what "auto" was set to
HIDDEN = frozenset({"fake"})


class EngineReport(msgspec.Struct, frozen=True, kw_only=True):
    """What doctor says of one engine."""

    name: str
    capabilities: Capabilities
    checks: list[Check]

    @property
    def usable(self) -> bool:
        return not any(check.required and check.status == "missing" for check in self.checks)


class NodeEngines:
    """`default`: the engine that "auto" means when no isolation is asked for; "auto": the strongest that works."""

    def __init__(self, home: Path, default: str = registry.AUTO) -> None:
        self._home, self._default = home, default
        self._made: dict[str, Engine] = {}
        self._surveyed: dict[str, registry.Candidate] = {}
        self._surveying = asyncio.Lock()
        self._names: list[str] | None = None

    def names(self) -> list[str]:
        """Of other packages those that were installed when doctor was last asked, or at first: looking for them reads
        every package's description, which costs more than making a sandbox does."""
        if self._names is None:
            self._names = registry.names()
        return self._names

    def get(self, name: str) -> Engine:
        """Raises InvalidError for an unknown name, UnavailableError for one that cannot be imported."""
        if name not in self._made:
            if name not in self.names() and name not in self._look_again():
                raise InvalidError(
                    f"there is no engine {name!r}",
                    field="engine",
                    remedy=f"one of: {', '.join([registry.AUTO, *self._shown()])}",
                )
            self._made[name] = registry.build(name, self._home)
        return self._made[name]

    async def choose(self, engine: str, isolation: Isolation | None) -> Engine:
        """Raises UnavailableError with the remedy of what is missing; what was missing is looked for again."""
        if engine == registry.AUTO and isolation is None:
            engine = self._default
        wanted = [engine] if engine != registry.AUTO else self._importable()
        name = registry.choose(await self._survey(wanted), engine, isolation)
        return self.get(name)

    async def doctor(self) -> list[EngineReport]:
        """Every engine, looked at afresh and all at once."""
        self._look_again()
        return list(await asyncio.gather(*map(self._report, self._shown())))

    async def close(self) -> None:
        """Whatever waits for sandboxes to come goes; sandboxes go on."""
        for engine in self._made.values():
            await engine.close()

    def _look_again(self) -> list[str]:
        self._names = None
        return self.names()

    def _shown(self) -> list[str]:
        return [name for name in self.names() if name not in HIDDEN or name == self._default]

    async def _survey(self, names: Iterable[str]) -> list[registry.Candidate]:
        return [await self._candidate(name) for name in names]

    async def _candidate(self, name: str) -> registry.Candidate:
        # probing makes a box: whoever comes meanwhile waits for that one
        async with self._surveying:
            known = self._surveyed.get(name)
            if known is None or known.missing():
                known = self._surveyed[name] = (await registry.survey([self.get(name)]))[0]
            return known

    def _importable(self) -> list[str]:
        found = []
        for name in self.names():
            try:
                self.get(name)
                found.append(name)
            except ClocheError:
                continue
        return found

    async def _report(self, name: str) -> EngineReport:
        try:
            engine = self.get(name)
        except ClocheError as error:
            broken = Check(
                id=f"{name}.import", status="missing", summary=error.message, remedy=error.remedy, required=True
            )
            return EngineReport(name=name, capabilities=Capabilities(isolation="none"), checks=[broken])
        checks = await engine.check()
        return EngineReport(name=name, capabilities=await engine.capabilities(), checks=checks)
