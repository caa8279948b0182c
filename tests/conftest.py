"""Options of the whole suite."""

import pytest

pytest.register_assert_rewrite(
    "cloche.engines.conformance", "cloche.engines.conformance_contexts", "cloche.engines.bench"
)

from cloche.engines.conformance import pytest_addoption  # noqa: E402

__all__ = ["pytest_addoption"]
