"""Options of the whole suite."""

import pytest

pytest.register_assert_rewrite("cloche.engines")

from cloche.engines.conformance import pytest_addoption  # noqa: E402
from tests.vm_assets import vm_assets  # noqa: E402

__all__ = ["pytest_addoption", "vm_assets"]
