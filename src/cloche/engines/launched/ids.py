"""Which host ids a box gets, as the launcher's plan says it: root's own range, the ranges of newuidmap, or the caller's
one id. Pure."""

from __future__ import annotations

from typing import Any

from cloche.engines.launched.facts import Facts
from cloche.images import host

#: host ids that distributions leave free (systemd's UIDS-GIDS: 0x70000000 and above are nobody's)
RANGE_FIRST, RANGE_SIZE, RANGE_SLOTS = 0x70000000, 65536, 4095


def ids(facts: Facts) -> dict[str, Any]:
    """The launcher's IDs. In mode "one" user code has the caller's own id; in the others root inside is an id that is
    nobody on the host (root) or the caller (newuidmap), and user code one that nobody has."""
    mode = facts.id_mode
    if mode == "range":
        return {"mode": "range", "uid": 0, "gid": 0, "lock": "/run/cloche-ids.lock", "first": RANGE_FIRST,
                "size": RANGE_SIZE, "slots": RANGE_SLOTS}  # fmt: skip
    if mode == "one" or facts.subids is None:
        return {"mode": "one", "uid": host.USER_ID, "gid": host.USER_ID, "uid_map": [[host.USER_ID, facts.uid, 1]],
                "gid_map": [[host.USER_ID, facts.gid, 1]]}  # fmt: skip
    sub = facts.subids
    return {
        "mode": "helper", "uid": 0, "gid": 0, "newuidmap": sub.newuidmap, "newgidmap": sub.newgidmap,
        "uid_map": [[0, facts.uid, 1], [1, sub.uid_first, sub.count]],
        "gid_map": [[0, facts.gid, 1], [1, sub.gid_first, sub.count]],
    }  # fmt: skip
