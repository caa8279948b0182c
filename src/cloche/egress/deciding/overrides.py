"""What else a request could mean to the site: many take another method or path than the first line's from a header.

A rule about methods or paths would then be held against words that do not count. So a request is decided for each of
its meanings, and all of them have to be allowed. What a body says (`_method` in a form) is not looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_plus

from cloche.egress.http.heads import RequestHead

_METHODS = (b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-method")
_PATHS = (b"x-original-url", b"x-rewrite-url", b"x-original-uri")
_PARAMETER = "_method"
_ALL = frozenset((*_METHODS, *_PATHS))
#: of one request; with more of them it has no meaning that anybody could allow
_MAX_CLAIMS = 4
_NO_MEANING = "?"


def meanings(head: RequestHead) -> Iterator[tuple[str, str]]:
    """Methods and paths, those of the first line last."""
    methods, paths = _claimed(head)
    if len(methods) + len(paths) > _MAX_CLAIMS:
        yield _NO_MEANING, _NO_MEANING
        return
    for method in [*methods, head.method]:
        for path in [*paths, head.path]:
            yield method, path


def _claimed(head: RequestHead) -> tuple[list[str], list[str]]:
    methods, paths = [], []
    for name, value in head.headers:
        lower = name.lower().replace(b"_", b"-")
        if lower not in _ALL:
            continue
        text = value.decode("latin-1")
        if lower in _PATHS:
            paths.append(_path(text))
        else:
            methods += [one.strip().upper() for one in text.split(",", _MAX_CLAIMS)]
    return [*methods, *_in_query(head.target.partition("?")[2])], paths


def _in_query(query: str) -> Iterator[str]:
    """Servers decode names, too, and some take `;` for `&`."""
    if _PARAMETER not in unquote_plus(query):
        return
    for part in re.split("[&;]", query):
        name, _, value = part.partition("=")
        if unquote_plus(name).strip() == _PARAMETER:
            yield unquote_plus(value).strip().upper() or _NO_MEANING


def _path(text: str) -> str:
    """Of a path or a whole URL, without its query."""
    scheme, mark, rest = text.partition("://")
    if mark and scheme.isalpha():
        text = "/" + rest.partition("/")[2]
    return text.partition("?")[0]
