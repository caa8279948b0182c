"""Routes of templates: named specs that creates begin from."""

from __future__ import annotations

from cloche.api.endpoint import Call, Endpoint, Nothing
from cloche.api.replies import Empty, Json, Reply
from cloche.model.template import Template, TemplateList, TemplateSpec


async def find_templates(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.templates.all())


async def get_template(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.templates.get(call.path["name"]))


async def put_template(call: Call[Nothing, TemplateSpec]) -> Reply:
    return Json(await call.services.templates.put(call.path["name"], call.body))


async def remove_template(call: Call[Nothing, None]) -> Reply:
    await call.services.templates.remove(call.path["name"])
    return Empty()


_ONE = "/v1/templates/{name}"

ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/templates", handler=find_templates, answer=TemplateList, summary="Templates, by name"
    ),
    Endpoint(
        method="GET", path=_ONE, handler=get_template, answer=Template, errors=("not_found",), summary="One template"
    ),
    Endpoint(
        method="PUT",
        path=_ONE,
        handler=put_template,
        body=TemplateSpec,
        answer=Template,
        errors=("unavailable_here", "limit_hit"),
        summary="Write or replace a template; what waits of it is made anew where it must be",
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        handler=remove_template,
        status=204,
        errors=("not_found",),
        summary="Forget a template; sandboxes made from it go on",
    ),
)
