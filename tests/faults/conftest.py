"""Sandboxes that reach a world outside while their node is killed."""

from __future__ import annotations

from tests.integration.world_fixtures import home, world

__all__ = ["home", "world"]
