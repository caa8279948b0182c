"""The node's own certificate authority, which only its sandboxes trust: it signs what the door shows to their code."""

from __future__ import annotations

import ssl
from pathlib import Path


class Authority:
    """Key and certificate in `HOME/egress/authority.pem`, 0600."""

    @classmethod
    def open(cls, home: Path) -> Authority:
        """Of this data directory; made when there is none, once for all processes. Raises AuthorityError."""
        raise NotImplementedError

    @property
    def pem(self) -> str:
        """The certificate, for guests; without the key."""
        raise NotImplementedError

    def context(self, host: str) -> ssl.SSLContext:
        """A server's context that shows a certificate of this name or address."""
        raise NotImplementedError
