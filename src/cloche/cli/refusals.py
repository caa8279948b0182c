"""What the network policy refused while a command ran, told when the command failed: it may be why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from shlex import quote
from typing import Any

from cloche.cli import policyview
from cloche.cli.render import clean
from cloche.model.egress import AuditLine
from cloche.model.egress_checks import PRESET
from cloche.model.egress_pairs import pair_words
from cloche.model.errors import ClocheError
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.egress_values import PolicyInfo, rule_word

MAX_LINES = 1000
MAX_NAMED = 3
PAUSES_SECONDS = (0.0, 0.05, 0.2)
#: what decided when no rule of the policy did: only then is a rule more of any use
OPEN_ENDED = ("default", "closed", "")


def since(sandbox: Sandbox, moment: float, *, failed: bool) -> list[AuditLine]:
    """What was refused since then (UTC seconds), each place once; nothing when that cannot be said. A connection gets
    its line when it is over, which may be a moment after the command: of one that `failed` it is waited for."""
    if sandbox.known.spec.egress is None:
        return []
    for pause in PAUSES_SECONDS if failed else (0.0,):
        time.sleep(pause)
        with suppress(ClocheError):
            if lines := sandbox.egress_log(since=moment, verdicts=["denied"], limit=MAX_LINES):
                return list({(line.host, line.port, line.rule): line for line in lines}.values())
    return []


def tried(sandbox: Sandbox) -> list[AuditLine]:
    """What a sandbox without a policy has tried, as if it had been refused just now."""
    with suppress(ClocheError):
        if sandbox.known.spec.egress is None:
            found = sandbox.suggest_policy().tried
            return [AuditLine(time=0, sandbox_id=sandbox.id, via="", verdict="denied", host=one.host, port=one.port,
                              rule="closed") for one in found]  # fmt: skip
    return []


def as_json(lines: Sequence[AuditLine]) -> list[dict[str, Any]]:
    """The field `denied` of `run --json`."""
    return [{"host": line.host, "port": line.port, "rule": line.rule, "reason": line.reason} for line in lines]


def told(lines: Sequence[AuditLine], words: Sequence[str], box: str | None) -> str:
    """One line for stderr. `words`: what would have been enough; `box` None: the sandbox is a new one each time."""
    more = len(lines) - MAX_NAMED
    places = ", ".join(_place(line) for line in lines[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
    said = f"cloche: {_who(lines)} refused {places}"
    if not words:
        return said
    new = f"--net {quote(','.join(words))}"
    way = new if box is None else f"cloche policy allow {box} {' '.join(map(quote, words))}"
    return f"{said}; allow it with: {clean(way)}"


def words_for(sandbox: Sandbox, lines: Sequence[AuditLine], *, whole: bool) -> list[str]:
    """What to add, or with `whole` the policy with it; nothing for what a rule that is there forbids on purpose."""
    meant = {line.host for line in lines if line.rule not in OPEN_ENDED}
    if meant.issuperset(line.host for line in lines):
        return []
    with suppress(ClocheError):
        has = _words(sandbox.known.spec.egress)
        found = [word for word in sandbox.suggest_policy().words if word not in has]
        wanted = _of_these([word for word in found if not any(host in word for host in meant)], lines)
        return [*has, *wanted] if whole and wanted else wanted
    return []


def _of_these(words: Sequence[str], lines: Sequence[AuditLine]) -> list[str]:
    """Without those that are for what was tried before; of a preset nobody can tell, unless all is said by others."""
    named = [word for word in words if any(line.host in word for line in lines)]
    rest = [line for line in lines if line.rule in OPEN_ENDED and not any(line.host in word for word in named)]
    return [word for word in words if word in named or (rest and PRESET.fullmatch(word))]


def _words(policy: PolicyInfo | None) -> list[str]:
    if policy is None:
        return []
    rest = [policy.default] if policy.default != "deny" else []
    return [*map(rule_word, policy.rules), *pair_words(policy), *rest]


def _who(lines: Sequence[AuditLine]) -> str:
    return "the sandbox has no network, and" if lines[0].rule == "closed" else "the network policy"


def _place(line: AuditLine) -> str:
    if line.via == "inside":
        return clean(f"{policyview.outside_tcp(line.protocol, line.host[:253], line.port)} ({line.reason})")
    host = f"[{line.host}]" if ":" in line.host else line.host
    port = f":{line.port}" if line.port else ""
    return clean(f"{host[:253]}{port}") + (f" ({clean(_why(line))})" if line.rule != "closed" else "")


def _why(line: AuditLine) -> str:
    """A rule says what it is in its reason; "loopback address" and its kin do not."""
    said = line.rule.startswith(("rule", "default")) or not (line.rule and line.reason)
    return line.reason or line.rule if said else f"{line.rule}: {line.reason}"
