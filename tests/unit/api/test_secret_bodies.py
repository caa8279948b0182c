"""Bodies with values in them show none in a traceback or a log line."""

from __future__ import annotations

from cloche.api.egress import PutSecret
from cloche.api.sandboxes import CreateSandbox, Session, StartSandbox
from cloche.model.egress import Secret

VALUE = "the-value-that-nobody-may-see"


def test_values_are_not_in_a_repr() -> None:
    session = Session(env={"KEY": VALUE}, secrets={"TOKEN": VALUE})
    bodies = [session, CreateSandbox(session=session), StartSandbox(session=session),
              PutSecret(secret=Secret(name="TOKEN", hosts=["api.example.com"]), value=VALUE)]  # fmt: skip
    for body in bodies:
        assert VALUE not in repr(body)
        assert "TOKEN" in repr(body)
