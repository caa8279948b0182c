"""Words of a policy that are no rule but of the whole of it: `NAME=VALUE`, its budgets and who may connect.

    out=10m  in=1g      bytes over the sandbox's life, as its code sends and receives them
    connections=100     open at once            connections=600/min    begun in a minute
    rate=5m/s           bytes a second, of both directions and all connections
    accept=web:8000     the sandbox `web` may connect to port 8000; accept=*, accept=web+test:80+8000-8100

No host has a `=` in its name, so they are none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from cloche.model.egress import AcceptRule, EgressBudget, EgressPolicy
from cloche.model.errors import InvalidError
from cloche.model.limits import parse_size_bytes, size_words

_PAIR = re.compile(r"([!?]?)\s*([A-Za-z_][A-Za-z0-9_-]*)\s*=\s*(.*)", re.DOTALL)
_COUNT = re.compile(r"([0-9]{1,18})(?:\s*/\s*(m|min|minute))?")
_SECOND = frozenset({"s", "sec", "second"})
_MEANT = "NAME, NAME:PORT or *:PORT, such as accept=web:8000"
#: how each is written, which is what an error says
_EXAMPLES = {
    "out": "a size, such as out=10m",
    "in": "a size, such as in=1g",
    "connections": "how many are open at once, such as connections=100, or begun in a minute: connections=600/min",
    "rate": "a size in a second, such as rate=5m/s",
    "accept": _MEANT,
}
_NEIGHBOURS = ".sandbox"


def is_pair(word: str) -> bool:
    """Whether it is meant as one of these: `out=10m`, also one that is wrong."""
    return _PAIR.fullmatch(word.strip()) is not None


def parse_pairs(words: Iterable[str]) -> tuple[EgressBudget, list[AcceptRule]]:
    """Raises InvalidError naming the word that is wrong."""
    found: dict[str, int] = {}
    accept: list[AcceptRule] = []
    for word in words:
        name, value = _taken_apart(word)
        if name == "accept":
            accept.append(parse_accept(value))
            continue
        field, number = _bound(name, value)
        if field in found:
            raise _wrong(f"{name}={value}", "it is said twice: leave one of them out")
        found[field] = number
    return EgressBudget(**found), accept


def parse_accept(text: str) -> AcceptRule:
    """ "web:8000", "web+test:80+8000-8100", "*" → who may connect, and to which ports. Raises InvalidError."""
    names, colon, ports = text.partition(":")
    sandboxes = [name.strip() for name in names.split("+")]
    wanted = [port.strip() for port in ports.split("+")] if colon else []
    if "" in sandboxes or "" in wanted:
        raise _wrong(f"accept={text}", f"it is {_MEANT}")
    for name in sandboxes:
        if name.endswith(_NEIGHBOURS):
            raise _wrong(f"accept={text}", f"the name alone: accept={text.replace(_NEIGHBOURS, '')}")
    found = AcceptRule(sandboxes=sandboxes, ports=wanted)
    _check(found, text)
    return found


def pair_words(policy: EgressPolicy) -> Iterator[str]:
    """What `parse_pairs` reads as the budget and the `accept` of this policy."""
    budget = policy.budget
    for name, size in (("out", budget.bytes_out), ("in", budget.bytes_in)):
        if size is not None:
            yield f"{name}={size_words(size)}"
    if budget.connections is not None:
        yield f"connections={budget.connections}"
    if budget.connections_per_minute is not None:
        yield f"connections={budget.connections_per_minute}/min"
    if budget.bytes_per_second is not None:
        yield f"rate={size_words(budget.bytes_per_second)}/s"
    # one that names nobody lets nobody in
    yield from (_accept_words(rule) for rule in policy.accept if rule.sandboxes)


def with_pairs(policy: EgressPolicy, words: Iterable[str]) -> EgressPolicy:
    """The same with these: what they bound is bounded anew, and whom they name is let in, too. Raises InvalidError."""
    budget, accept = parse_pairs(words)
    given = {name: value for name in budget.__struct_fields__ if (value := getattr(budget, name)) is not None}
    both = [*policy.accept, *(rule for rule in accept if rule not in policy.accept)]
    return msgspec.structs.replace(policy, budget=msgspec.structs.replace(policy.budget, **given), accept=both)


def _accept_words(rule: AcceptRule) -> str:
    return f"accept={'+'.join(rule.sandboxes)}{':' if rule.ports else ''}{'+'.join(rule.ports)}"


def _taken_apart(word: str) -> tuple[str, str]:
    match = _PAIR.fullmatch(word.strip())
    if match is None:
        raise _wrong(word, f"it is one of {', '.join(f'{name}=…' for name in _EXAMPLES)}")
    sign, name, value = match[1], match[2].lower(), match[3].strip()
    if name not in _EXAMPLES:
        raise _wrong(word, f"there is no {name}=; there are {', '.join(f'{known}=' for known in _EXAMPLES)}")
    if sign:
        raise _wrong(word, f"it has no sign: {name}={value}")
    return name, value


def _bound(name: str, value: str) -> tuple[str, int]:
    """The field of a budget, and its number."""
    if name == "connections":
        match = _COUNT.fullmatch(value.lower())
        if match is None:
            raise _unreadable(name, value)
        return ("connections_per_minute" if match[2] else "connections"), int(match[1])
    size, slash, unit = value.lower().partition("/") if name == "rate" else (value, "", "")
    if slash and unit.strip() not in _SECOND:
        raise _unreadable(name, value)
    try:
        number = parse_size_bytes(size)
    except InvalidError as error:
        raise _unreadable(name, value) from error
    return {"out": "bytes_out", "in": "bytes_in", "rate": "bytes_per_second"}[name], number


def _check(rule: AcceptRule, text: str) -> None:
    # the checks of a whole policy name a field; here it is the word that somebody typed
    from cloche.model.egress_checks import check_policy

    try:
        check_policy(EgressPolicy(accept=[rule]))
    except InvalidError as error:
        raise _wrong(f"accept={text}", error.message.partition(": ")[2]) from error


def _unreadable(name: str, value: str) -> InvalidError:
    return _wrong(f"{name}={value}", f"it is {_EXAMPLES[name]}")


def _wrong(word: str, message: str) -> InvalidError:
    return InvalidError(f"{word[:100]!r}: {message}", field="egress")
