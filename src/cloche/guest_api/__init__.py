"""Typed client of the guest's wire (guest/README.md) over any channel."""

from cloche.guest_api.client import ForwardedBody, Guest
from cloche.guest_api.contexts import ContextListing
from cloche.guest_api.files import FileBody
from cloche.guest_api.machine import Wake
from cloche.guest_api.models import GuestHealth, GuestStats, SessionSetup
from cloche.guest_api.transport import Body

__all__ = ["Body", "ContextListing", "FileBody", "ForwardedBody", "Guest", "GuestHealth", "GuestStats", "SessionSetup",
           "Wake"]  # fmt: skip
