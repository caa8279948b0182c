"""Options of the whole suite."""

import pytest

pytest.register_assert_rewrite("cloche.engines")

from cloche.engines.conformance import pytest_addoption  # noqa: E402
from tests.vm_assets import vm_assets  # noqa: E402
from tests.vm_root import small_host, vm_home, vm_place  # noqa: E402

__all__ = ["pytest_addoption", "small_host", "vm_assets", "vm_home", "vm_place"]
