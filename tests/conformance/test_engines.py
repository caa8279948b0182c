"""Every engine of this installation, or the one of `--engine NAME`, against the suite that ships with Cloche."""

from cloche.engines.conformance import *  # noqa: F403
