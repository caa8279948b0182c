"""What the tools of one server say about its network: a model shall neither try in vain nor believe that it cannot."""

from __future__ import annotations

from cloche.mcp.settings import Settings
from cloche.model.egress import EgressPolicy
from cloche.sdk import egress_options
from cloche.sdk.egress_values import words

#: of a policy in a description, which every client of the server reads
MAX_WORDS = 300
#: what descriptions of tools have where this goes
PLACE = "{network}"


def sentence(settings: Settings) -> str:
    """For the description of a tool."""
    if settings.net is not None:
        return said(egress_options.policy(settings.net))
    if settings.template is not None:
        return "The network reaches what the user's template allows, which may be nothing."
    return "There is no network."


def said(policy: EgressPolicy | None) -> str:
    """The same of a policy."""
    if not _opens(policy):
        return "There is no network."
    told = words(policy)
    if told == "allow":
        return "The network reaches the public internet, but nothing private or local."
    shown = told if len(told) <= MAX_WORDS else f"{told[:MAX_WORDS]}…"
    return f"The network reaches only what the user's policy allows ({shown}); all else is refused at once."


def is_open(settings: Settings) -> bool:
    """Whether a tool may reach the world outside."""
    return settings.template is not None if settings.net is None else _opens(egress_options.policy(settings.net))


def _opens(policy: EgressPolicy | None) -> bool:
    return policy is not None and bool(policy.rules or policy.default != "deny")
