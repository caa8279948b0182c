"""Following the log of the door: each line once, whenever it was written."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest

from cloche.cli import policy_log
from cloche.model.egress import AuditLine
from cloche.model.errors import NotFoundError

LINES = [
    AuditLine(time=float(n), sandbox_id="sb_1", host=f"{n}.example", via="proxy", verdict="allowed") for n in range(9)
]


class Growing:
    """A log in which one more line stands at each look."""

    def __init__(self) -> None:
        self.looks = 0

    def lines(self, since: float | None, limit: int) -> list[AuditLine]:
        self.looks += 1
        return LINES[: self.looks][-limit:]


@pytest.mark.parametrize("tail", [1, 1000])
def test_no_line_is_lost_between_two_looks(monkeypatch: pytest.MonkeyPatch, tail: int) -> None:
    monkeypatch.setattr(policy_log, "LOOK_SECONDS", 0)
    shown = list(islice(policy_log._read(Growing(), None, tail, True), 5))  # type: ignore[arg-type]
    first = 2 - min(tail, 2)
    assert shown == LINES[first : first + 5]


@pytest.mark.parametrize(("egress", "closed"), [(None, True), ("a policy", False), ("gone", False)])
def test_a_closed_sandbox_is_known_by_its_policy(
    monkeypatch: pytest.MonkeyPatch, egress: str | None, closed: bool
) -> None:
    def found(ref: str) -> SimpleNamespace:
        if egress == "gone":
            raise NotFoundError("no such sandbox")
        return SimpleNamespace(known=SimpleNamespace(spec=SimpleNamespace(egress=egress)))

    monkeypatch.setattr(policy_log.Sandbox, "from_id", found)
    assert policy_log._is_closed("box") is closed
