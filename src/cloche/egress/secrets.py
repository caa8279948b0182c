"""Puts the values of secrets where the code has placeholders, and takes them out of what comes back."""

from __future__ import annotations


def new_placeholder() -> str:
    """`cloche-secret-` and 32 hex digits: what the code has instead of the value."""
    raise NotImplementedError
