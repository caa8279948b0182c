"""Templates: named specs that creates begin from, with what is kept warm of them."""

from __future__ import annotations

import msgspec

from cloche.model.code import Language
from cloche.model.egress import Secret
from cloche.model.errors import InvalidError
from cloche.model.limits import Limits
from cloche.model.sandbox import NAME, NAME_RULE, SandboxSpec

MAX_TEMPLATES = 1000
MAX_WARM_SIZE = 1000
MAX_WARM_CODE_BYTES = 256 << 10
#: both of the template and of the create; the create's own win key by key
_MERGED = ("env", "labels")


class WarmContext(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The default context of `language`, with `code` run in it once before anybody gets the sandbox."""

    language: Language = "python"
    code: str = ""


class Warm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`size`: how many sandboxes of the template wait ready. `contexts` hold for every sandbox made from it, waiting
    or not; at most one for each language."""

    size: int = 0
    contexts: list[WarmContext] = []

    def check(self) -> None:
        """Raise InvalidError naming the field that is wrong."""
        if not 0 <= self.size <= MAX_WARM_SIZE:
            raise InvalidError(f"warm.size must be from 0 to {MAX_WARM_SIZE}", field="warm.size")
        languages = [context.language for context in self.contexts]
        if len(set(languages)) < len(languages):
            raise InvalidError("a language has one default context: name it once", field="warm.contexts")
        if any(len(context.code.encode("utf-8", "surrogatepass")) > MAX_WARM_CODE_BYTES for context in self.contexts):
            raise InvalidError(f"warm code is larger than {MAX_WARM_CODE_BYTES} bytes", field="warm.contexts.code")


class TemplateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PUT /v1/templates/{name}`."""

    spec: SandboxSpec = msgspec.field(default_factory=SandboxSpec)
    warm: Warm = Warm()

    def check(self) -> None:
        """Raise InvalidError naming the field that is wrong."""
        for field in ("name", "template", "snapshot"):
            if getattr(self.spec, field) is not None:
                raise InvalidError(f"a template's spec has no {field}", field=f"spec.{field}")
        self.spec.check()
        self.warm.check()


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A template as it is stored and shown. Times are UTC seconds since the epoch."""

    name: str
    project_id: str
    spec: SandboxSpec
    warm: Warm
    created_at: float
    updated_at: float


class TemplateList(msgspec.Struct, frozen=True, kw_only=True):
    """By name."""

    templates: list[Template]


def check_name(name: str) -> None:
    """Raise InvalidError for what cannot name a template."""
    if not NAME.fullmatch(name):
        raise InvalidError(f"template {name!r}: {NAME_RULE}", field="template")


def apply(template: SandboxSpec, asked: SandboxSpec, said: frozenset[str]) -> SandboxSpec:
    """What a create means that names a template: `said` are the fields of `asked` that were given, and they win.
    Limits win one by one; environment, labels and secrets are merged by name."""
    values = {field: getattr(asked if field in said else template, field) for field in asked.__struct_fields__}
    for field in _MERGED:
        values[field] = {**getattr(template, field), **getattr(asked, field)}
    values["limits"] = _limits(template.limits, asked.limits)
    values["secrets"] = merge_secrets(template.secrets, asked.secrets)
    return SandboxSpec(**{**values, "name": asked.name, "template": asked.template})


def given(spec: SandboxSpec) -> frozenset[str]:
    """The fields that a spec certainly says: those that are not as they are by default."""
    plain = SandboxSpec()
    return frozenset(field for field in spec.__struct_fields__ if getattr(spec, field) != getattr(plain, field))


def merge_secrets(below: list[Secret], above: list[Secret]) -> list[Secret]:
    """By name; those above win."""
    return list({secret.name: secret for secret in (*below, *above)}.values())


def _limits(template: Limits, asked: Limits) -> Limits:
    pairs = ((name, getattr(asked, name), getattr(template, name)) for name in asked.__struct_fields__)
    return Limits(**{name: default if value is None else value for name, value, default in pairs})
