"""Says quickly that none of many texts is in a long one.

Looking for each of them costs as many passes as there are texts, and ten secrets have forty forms. But a text of 39
bytes covers, wherever it stands, one whole word of eight bytes that begins at a multiple of 32: so one word of every 32
bytes, held against the set of all words that could be there, is enough for all of them together. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_WORD_BYTES = 8
#: between two words that are looked at; the wider, the longer a text has to be
_STRIDES = (32, 16)
#: up to so many are sooner looked for one by one
_FEW = 12


class Sieve:
    """Of these texts. Those too short for a word between two strides are looked for one by one."""

    def __init__(self, texts: Iterable[bytes]) -> None:
        texts = list(texts)
        self._one_by_one = [text for text in texts if len(text) < _needed(_STRIDES[-1])]
        rest = [text for text in texts if len(text) >= _needed(_STRIDES[-1])]
        self._stride = next((stride for stride in _STRIDES if all(len(text) >= _needed(stride) for text in rest)), 0)
        self._words: frozenset[int] = frozenset()
        self._sifted: list[bytes] = []
        if len(rest) <= _FEW:
            self._one_by_one += rest
        else:
            self._sifted, self._words = rest, frozenset(_words(rest, self._stride))

    def found(self, data: bytes) -> list[bytes]:
        """Those of the texts that are in `data`."""
        found = [text for text in self._one_by_one if text in data]
        if self._sifted and self._may_have(data):
            found += [text for text in self._sifted if text in data]
        return found

    def _may_have(self, data: bytes) -> bool:
        """False is certain."""
        # a text that reaches into the last bytes has a word before them, or in what is looked at as a whole
        whole = len(data) - len(data) % _WORD_BYTES
        words = memoryview(data)[:whole].cast("Q")[:: self._stride // _WORD_BYTES]
        return not self._words.isdisjoint(words)


def _needed(stride: int) -> int:
    """The shortest text in which a whole word begins at a multiple of the stride, wherever it stands."""
    return stride + _WORD_BYTES - 1


def _words(texts: Iterable[bytes], stride: int) -> Iterable[int]:
    for text in texts:
        # the first word of its text that is looked at begins at one of these
        for at in range(stride):
            yield memoryview(text[at : at + _WORD_BYTES]).cast("Q")[0]
