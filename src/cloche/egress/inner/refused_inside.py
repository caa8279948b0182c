"""What the kernel of a sandbox has refused before it came to the door: only TCP, and names, lead to it. The guest
tells, so that this is seen as any other refusal is."""

from __future__ import annotations

import time

from cloche.egress.auditing.shares import MANY
from cloche.egress.deciding import names
from cloche.egress.inner.attached import Attached
from cloche.egress.inner.guest_words import Refused
from cloche.model.egress import AuditLine

#: by protocol: the rule, and what is said to people
_WHY = {
    "udp": ("no-udp", "UDP does not leave a sandbox"),
    "icmp": ("no-icmp", "pings do not leave a sandbox"),
    "other": ("no-other", "only TCP leaves a sandbox"),
}
_SEVERAL = "*"


def write(attached: Attached, word: Refused) -> None:
    """To the audit, and as an event. What names no host is passed over: nothing hangs on it."""
    host = _host(word.host)
    if host is not None:
        attached.write(audit_line(word, host, attached.id, attached.name))


def audit_line(word: Refused, host: str, sandbox_id: str, name: str | None) -> AuditLine:
    rule, reason = _WHY[word.protocol]
    if host == _SEVERAL:
        rule, reason = "no-other", MANY
    return AuditLine(
        time=time.time(), sandbox_id=sandbox_id, sandbox=name, via="inside", verdict="denied", host=host,
        port=word.port, rule=rule, reason=reason, protocol=word.protocol, process=word.process, pid=word.pid,
        repeated=word.count - 1,
    )  # fmt: skip


def _host(text: str) -> str | None:
    try:
        return text if text == _SEVERAL else names.read_host(text).text
    except ValueError:
        return None
