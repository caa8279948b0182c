"""What a new machine gets by the choice of its VMM. It is written down with it: the next may get another one."""

from __future__ import annotations

from typing import Any

from cloche.engines.launched.facts import Facts
from cloche.engines.vm import firecracker_plan, plan, vmms


def of_new(facts: Facts) -> dict[str, Any]:
    """Raises UnavailableError for a VMM that nobody knows."""
    vmm = vmms.wanted()
    ids = firecracker_plan.monitor_ids(facts) if vmm == "firecracker" else plan.monitor_ids(facts)
    return {"vmm": vmm, "ids": ids}
