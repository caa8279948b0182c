"""Engines by name, imported when they are asked for, and the choice of one.

Other packages add engines through the entry point group `cloche.engines`: a name and a factory that takes the data
directory. A name of Cloche's own cannot be taken over.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from cloche.engines.base import Check, Engine
from cloche.model.errors import UnavailableError
from cloche.model.sandbox import ISOLATION_ORDER, Isolation

Factory = Callable[[Path], Engine]

AUTO = "auto"
ENTRY_POINTS = "cloche.engines"
BUILT_IN = {
    "vm": "cloche.engines.vm.engine:VmEngine",
    "namespace": "cloche.engines.namespace.engine:NamespaceEngine",
    "fake": "cloche.engines.fake:FakeEngine",
}


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What `choose` needs to know of one engine."""

    name: str
    isolation: Isolation
    emulated: bool = False
    checks: list[Check] = []

    def missing(self) -> list[Check]:
        """What it cannot run without and does not have."""
        return [check for check in self.checks if check.required and check.status == "missing"]


def names() -> list[str]:
    """Cloche's own engines, then those of other packages."""
    return [*BUILT_IN, *sorted(set(_entry_points()) - set(BUILT_IN))]


def load(name: str) -> Factory:
    """Import an engine. Raises UnavailableError when there is none of this name or it cannot be imported."""
    try:
        if name in BUILT_IN:
            module, _, attribute = BUILT_IN[name].partition(":")
            return cast(Factory, getattr(importlib.import_module(module), attribute))
        return cast(Factory, _entry_points()[name].load())
    except KeyError as error:
        raise _unknown(name, names()) from error
    except ImportError as error:
        raise UnavailableError(f"engine {name!r} cannot be imported: {error}",
                               remedy=f"reinstall the package that has {name!r}") from error  # fmt: skip


def build(name: str, home: Path) -> Engine:
    """The engine `name` for the data directory `home`."""
    return load(name)(home)


async def survey(engines: Iterable[Engine]) -> list[Candidate]:
    """Ask every engine what it is and what it lacks."""
    return [await _candidate(engine) for engine in engines]


async def _candidate(engine: Engine) -> Candidate:
    # what a check finds by trying is known to the capabilities, and not tried again
    checks = await engine.check()
    can = await engine.capabilities()
    return Candidate(name=engine.name, isolation=can.isolation, emulated=can.emulated, checks=checks)


def choose(engines: Sequence[Candidate], engine: str = AUTO, isolation: Isolation | None = None) -> str:
    """The name of the engine to use. `isolation` is met exactly: neither less nor, unasked, more.

    "auto" is the strongest engine that is usable, and never one that isolates nothing or emulates a processor. Raises
    UnavailableError with the remedy of what is missing; nothing falls back.
    """
    if engine != AUTO:
        return _named(engines, engine, isolation)
    wanted = [each for each in _strongest_first(engines) if isolation in (None, each.isolation)]
    usable = [each for each in wanted if not each.missing() and not each.emulated]
    if not usable:
        raise _none_usable(wanted, isolation)
    return usable[0].name


def _named(engines: Sequence[Candidate], name: str, isolation: Isolation | None) -> str:
    found = next((each for each in engines if each.name == name), None)
    if found is None:
        raise _unknown(name, [each.name for each in engines])
    if isolation not in (None, found.isolation):
        raise UnavailableError(
            f"engine {name!r} isolates by {found.isolation}, and {isolation} was asked for",
            remedy=f"--engine auto --isolation {isolation}",
            engine=name,
        )
    if missing := found.missing():
        raise UnavailableError(
            f"engine {name!r} cannot run here: {missing[0].summary}", remedy=missing[0].remedy, engine=name
        )
    return name


def _strongest_first(engines: Sequence[Candidate]) -> list[Candidate]:
    real = [each for each in engines if each.isolation != "none"]
    return sorted(real, key=lambda each: ISOLATION_ORDER.index(each.isolation))


def _none_usable(wanted: Sequence[Candidate], isolation: Isolation | None) -> UnavailableError:
    level = f"isolation {isolation!r}" if isolation else "any isolation"
    if not wanted:
        message = f"no engine that is installed gives {level}"
        return UnavailableError(message, remedy="cloche doctor", isolation=isolation)
    emulated = next((each.name for each in wanted if each.emulated and not each.missing()), None)
    if emulated:
        message = f"engine {emulated!r} gives {level} here only by emulating a processor, ten to twenty times slower"
        return UnavailableError(message, remedy=f"--engine {emulated}", isolation=isolation)
    reasons = [(each.name, check) for each in wanted for check in each.missing()]
    because = "; ".join(f"{name}: {check.summary}" for name, check in reasons)
    remedy = next((check.remedy for _, check in reasons if check.remedy), "cloche doctor")
    return UnavailableError(f"no engine can give {level} here ({because})", remedy=remedy, isolation=isolation)


def _unknown(name: str, known: Sequence[str]) -> UnavailableError:
    remedy = f"one of: {', '.join([AUTO, *known])}"
    return UnavailableError(f"there is no engine {name!r} here", remedy=remedy, engine=name)


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
