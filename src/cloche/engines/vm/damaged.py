"""What every parser of this engine raises for bytes that are not what they say they are.

Who called knows where the bytes came from, and turns it into the error that a person can act on."""

from __future__ import annotations


class DamagedError(ValueError):
    """`str` says what is wrong, in a few words, without where it was found."""
