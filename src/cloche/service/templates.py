"""Templates: kept, checked as a create would be, and turned into what a create means that names one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cloche.model import template as rules
from cloche.model.errors import LimitHitError, NotFoundError
from cloche.model.events import DEFAULT_PROJECT
from cloche.model.sandbox import SandboxSpec
from cloche.model.template import Template, TemplateList, TemplateSpec, WarmContext
from cloche.service import bringup, egress_specs
from cloche.service.core import Core


class TemplateService:
    def __init__(self, core: Core, changed: Callable[[], Awaitable[None]]) -> None:
        """`changed` is called after every change."""
        self._core = core
        self._changed = changed

    async def put(self, name: str, asked: TemplateSpec, *, project_id: str = DEFAULT_PROJECT) -> Template:
        """Write or replace one. Raises InvalidError, LimitHitError beyond 1000, and what a create with this spec would
        raise here: UnavailableError, LimitUnenforceableError."""
        rules.check_name(name)
        asked.check()
        spec = egress_specs.asked_for(asked.spec)
        await asyncio.to_thread(egress_specs.require_usable, spec)
        await self._try(spec)
        await self._require_room(name, project_id)
        now = self._core.clock.now()
        template = Template(name=name, project_id=project_id, spec=spec, warm=asked.warm, created_at=now,
                            updated_at=now)  # fmt: skip
        await self._core.store.put_template(template)
        await self._changed()
        return await self.get(name, project_id=project_id)

    async def get(self, name: str, *, project_id: str = DEFAULT_PROJECT) -> Template:
        found = await self._core.store.template(project_id, name)
        if found is None:
            raise NotFoundError(f"there is no template {name!r}", remedy="cloche template ls")
        return found

    async def all(self, *, project_id: str = DEFAULT_PROJECT) -> TemplateList:
        return TemplateList(templates=await self._core.store.templates(project_id))

    async def remove(self, name: str, *, project_id: str = DEFAULT_PROJECT) -> None:
        """Sandboxes that were made from it go on. Raises NotFoundError."""
        await self.get(name, project_id=project_id)
        await self._core.store.delete_template(project_id, name)
        await self._changed()

    async def resolve(
        self, spec: SandboxSpec, said: frozenset[str] | None, project_id: str
    ) -> tuple[SandboxSpec, list[WarmContext]]:
        """What a create means: its own spec, or that of its template below it. `said`: the fields that were given;
        None: those that are not as they are by default. Raises NotFoundError, InvalidError."""
        if spec.template is None:
            return spec, []
        rules.check_name(spec.template)
        template = await self.get(spec.template, project_id=project_id)
        said = rules.given(spec) if said is None else said
        return rules.apply(template.spec, spec, said), template.warm.contexts

    async def _try(self, spec: SandboxSpec) -> None:
        engine = await self._core.engines.choose(spec.engine, spec.isolation)
        bringup.new_record(self._core, spec, engine, await engine.capabilities(), DEFAULT_PROJECT)

    async def _require_room(self, name: str, project_id: str) -> None:
        known = await self._core.store.templates(project_id)
        if len(known) >= rules.MAX_TEMPLATES and name not in {template.name for template in known}:
            raise LimitHitError(f"there are {rules.MAX_TEMPLATES} templates already", limit="templates")
