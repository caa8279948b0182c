"""Every route of the API, in one tuple."""

from __future__ import annotations

from cloche.api import contexts, files, node, processes, sandboxes, watching
from cloche.api.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *node.ENDPOINTS,
    *watching.ENDPOINTS,
    *sandboxes.ENDPOINTS,
    *processes.ENDPOINTS,
    *contexts.ENDPOINTS,
    *files.ENDPOINTS,
)
