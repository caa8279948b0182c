"""The states of a sandbox and the only moves between them."""

from __future__ import annotations

from typing import Literal, get_args

from cloche.model.errors import WrongStateError

State = Literal["creating", "running", "paused", "suspended", "stopping", "stopped", "failed"]
STATES: tuple[State, ...] = get_args(State)

#: operation → (states it starts from, state while it runs or None, state when it has succeeded; None: the row is gone)
TABLE: dict[str, tuple[frozenset[State], State | None, State | None]] = {
    "create": (frozenset(), "creating", "running"),
    "start": (frozenset({"stopped"}), "creating", "running"),
    "pause": (frozenset({"running"}), None, "paused"),
    "resume": (frozenset({"paused", "suspended"}), None, "running"),
    "suspend": (frozenset({"running", "paused"}), "stopping", "suspended"),
    "fork": (frozenset({"running", "paused"}), None, None),
    "snapshot": (frozenset({"running", "paused"}), None, None),
    "stop": (frozenset({"running", "paused"}), "stopping", "stopped"),
    "remove": (
        frozenset({"stopped", "failed", "running", "paused", "suspended", "creating", "stopping"}),
        "stopping",
        None,
    ),
    "exec": (frozenset({"running"}), None, "running"),
    "extend": (frozenset({"running", "paused", "suspended"}), None, None),
    "policy": (frozenset({"running", "paused", "suspended", "stopped"}), None, None),
    "publish": (frozenset({"running", "paused"}), None, None),
}

#: states in which processes of the sandbox exist (frozen or not)
LIVING: frozenset[State] = frozenset({"creating", "running", "paused", "stopping"})

_REMEDY = {
    ("stopped", "exec"): "cloche start {ref}",
    ("paused", "exec"): "cloche resume {ref}",
    ("running", "start"): "it is running already: cloche exec {ref} -- …",
    ("paused", "start"): "cloche resume {ref}",
    ("suspended", "exec"): "cloche resume {ref}",
    ("suspended", "start"): "cloche resume {ref}",
    ("suspended", "pause"): "it is put aside already: cloche resume {ref}",
    ("suspended", "suspend"): "it is suspended already: cloche resume {ref}",
    ("suspended", "stop"): "cloche resume {ref} first, or take it away: cloche rm {ref}",
    ("suspended", "fork"): "cloche resume {ref}",
    ("suspended", "snapshot"): "cloche resume {ref}",
    ("stopped", "resume"): "cloche start {ref}",
    ("stopped", "fork"): "cloche start {ref}",
    ("stopped", "snapshot"): "cloche start {ref}",
    ("stopped", "suspend"): "it has no memory to keep: cloche start {ref}",
    ("stopped", "publish"): "cloche start {ref}",
    ("suspended", "publish"): "cloche resume {ref}",
    ("running", "resume"): "it is running already: cloche exec {ref} -- …",
    ("failed", "exec"): "cloche rm {ref}",
    ("failed", "start"): "cloche rm {ref}",
}


def require(operation: str, state: State, ref: str) -> None:
    """Raise WrongStateError unless `operation` may start from `state`."""
    allowed = TABLE[operation][0]
    if state in allowed:
        return
    wanted = " or ".join(sorted(allowed))
    remedy = _REMEDY.get((state, operation))
    raise WrongStateError(
        f"cannot {operation} sandbox {ref}: it is {state}, not {wanted}",
        remedy=remedy.format(ref=ref) if remedy else None,
        state=state,
    )
