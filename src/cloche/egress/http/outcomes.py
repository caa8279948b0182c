"""How a request can end before its time, as exceptions that know what the client is answered and the audit is told."""

from __future__ import annotations

from typing import Literal

from cloche.egress.hooks import DialError, LimitHit, Site
from cloche.egress.http import refusal
from cloche.egress.http.framing import BadMessageError
from cloche.egress.http.heads import RequestHead
from cloche.egress.secrecy.secrets import SecretRefusedError
from cloche.model.egress import Decision

Verdict = Literal["denied", "failed", "limit"]


class RefusedError(Exception):
    """`body`: the whole answer, for a client that has got none yet. `decision`: instead of the policy's."""

    def __init__(self, status: int, verdict: Verdict, reason: str, body: bytes) -> None:
        super().__init__(reason)
        self.status = status
        self.verdict: Verdict = verdict
        self.reason = reason
        self.body = body
        self.decision: Decision | None = None


class ClientGoneError(Exception):
    """Nobody is there to be answered."""


class UpstreamGoneError(Exception):
    """The site ended the connection. `unheard`: before it said anything."""

    def __init__(self, reason: str, *, unheard: bool = False) -> None:
        super().__init__(reason)
        self.unheard = unheard


def denied(decision: Decision, site: Site, head: RequestHead, sandbox: str) -> RefusedError:
    body = refusal.forbidden(
        site.host, site.port, rule=decision.rule, message=decision.reason, method=head.method, path=head.path,
        remedy=refusal.allowing(sandbox, decision.remedy),
    )  # fmt: skip
    return RefusedError(403, "denied", decision.reason or decision.rule, body)


def misdirected(site: Site, head: RequestHead) -> RefusedError:
    reason = f"the request names {head.host}, but its connection is to {site.host}"
    body = refusal.forbidden(
        head.host, head.port or site.port, rule="name differs", message=reason, method=head.method, path=head.path,
    )  # fmt: skip
    return RefusedError(403, "denied", reason, body)


def secret_refused(error: SecretRefusedError, site: Site, head: RequestHead) -> RefusedError:
    body = refusal.forbidden(
        site.host, site.port, rule=f"secret {error.secret}", message=error.reason, method=head.method, code=error.code
    )
    return RefusedError(403, "denied", f"{error.code}: {error.reason}", body)


def bad_request(error: BadMessageError) -> RefusedError:
    status = error.status if error.status < 500 or error.status in (501, 505) else 400
    return RefusedError(status, "denied", f"bad request: {error}", refusal.answer(status, "bad_request", str(error)))


def undialled(error: DialError, site: Site, head: RequestHead, sandbox: str) -> RefusedError:
    if error.code == "denied":
        return denied(Decision(action="deny", rule="address", reason=error.reason), site, head, sandbox)
    return failed(f"{site.host}: {error.reason}")


def failed(reason: str, status: int = 502) -> RefusedError:
    return RefusedError(status, "failed", reason, refusal.answer(status, "egress_failed", reason))


def limit_hit(error: LimitHit) -> RefusedError:
    refused = RefusedError(429, "limit", error.reason, refusal.limited(error.limit, error.reason))
    refused.decision = Decision(action="deny", rule=f"budget {error.limit}", reason=error.reason)
    return refused
