"""Every route of the API, in one tuple."""

from __future__ import annotations

from cloche.api import (
    contexts,
    dial,
    egress,
    files,
    forks,
    node,
    pool,
    ports,
    processes,
    sandboxes,
    setup,
    snapshots,
    templates,
    watching,
)
from cloche.api.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *node.ENDPOINTS,
    *setup.ENDPOINTS,
    *watching.ENDPOINTS,
    *sandboxes.ENDPOINTS,
    *forks.ENDPOINTS,
    *snapshots.ENDPOINTS,
    *templates.ENDPOINTS,
    *pool.ENDPOINTS,
    *processes.ENDPOINTS,
    *contexts.ENDPOINTS,
    *files.ENDPOINTS,
    *dial.ENDPOINTS,
    *egress.ENDPOINTS,
    *ports.ENDPOINTS,
)
