"""What `cloche forward` says of connections that could not be made."""

from __future__ import annotations

import pytest

from cloche.cli.commands.forward import QUIET_SECONDS, Refusals
from cloche.model.errors import NotFoundError, WrongStateError

DEAD = NotFoundError("nothing listens on port 9 in the sandbox", remedy="start it\x1b")
SAID = "cloche: a connection was closed: nothing listens on port 9 in the sandbox\n  try: start it\\x1b\n"


def test_the_same_reason_is_told_once_in_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    tell = Refusals(lambda: now)
    tell(DEAD)
    tell(DEAD)
    assert capsys.readouterr().err == SAID
    tell(WrongStateError("box is paused"))
    assert capsys.readouterr().err == "cloche: a connection was closed: box is paused\n"
    tell(DEAD)
    assert capsys.readouterr().err == SAID
    now += QUIET_SECONDS
    tell(DEAD)
    assert capsys.readouterr().err == SAID
