"""What the tools of one server say about its network: a model shall neither try in vain nor believe that it cannot."""

from __future__ import annotations

from cloche.mcp.settings import Settings
from cloche.sdk.egress_values import words

#: of a policy in a description, which every client of the server reads
MAX_WORDS = 300
#: what descriptions of tools have where this goes
PLACE = "{network}"


def sentence(settings: Settings) -> str:
    """For the description of a tool."""
    if settings.net is not None:
        return said(_words(settings))
    if settings.template is not None:
        return "The network reaches what the user's template allows, which may be nothing."
    return "There is no network."


def said(policy: str) -> str:
    """The same of a policy in words."""
    if policy in ("none", "deny"):
        return "There is no network."
    if policy == "allow":
        return "The network reaches the public internet, but nothing private or local."
    shown = policy if len(policy) <= MAX_WORDS else f"{policy[:MAX_WORDS]}…"
    return f"The network reaches only what the user's policy allows ({shown}); all else is refused at once."


def is_open(settings: Settings) -> bool:
    """Whether a tool may reach the world outside."""
    return _words(settings) not in ("none", "deny") if settings.net is not None else settings.template is not None


def _words(settings: Settings) -> str:
    return settings.net if isinstance(settings.net, str) else words(settings.net)
