"""Every route of the API, in one tuple."""

from __future__ import annotations

from cloche.api import contexts, files, node, pool, processes, sandboxes, setup, templates, watching
from cloche.api.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *node.ENDPOINTS,
    *setup.ENDPOINTS,
    *watching.ENDPOINTS,
    *sandboxes.ENDPOINTS,
    *templates.ENDPOINTS,
    *pool.ENDPOINTS,
    *processes.ENDPOINTS,
    *contexts.ENDPOINTS,
    *files.ENDPOINTS,
)
