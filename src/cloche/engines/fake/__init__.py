"""The fake engine (see engine.py)."""

from cloche.engines.fake.engine import FakeEngine

__all__ = ["FakeEngine"]
