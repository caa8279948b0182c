"""A guest that says what a test tells it; files whose guest is another have a fixture of their own."""

from tests.unit.guest_api.scripted import guest, scripted

__all__ = ["guest", "scripted"]
