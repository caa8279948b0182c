"""Options of the whole suite."""

import pytest
from hypothesis import HealthCheck, settings

# a busy machine is no failure, and a run tells what another run tells; `--hypothesis-profile=default` goes exploring
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")
pytest.register_assert_rewrite("cloche.engines")

from cloche.engines.conformance import pytest_addoption  # noqa: E402
from tests.vm_assets import vm_assets  # noqa: E402
from tests.vm_root import small_host, vm_home, vm_place  # noqa: E402

__all__ = ["pytest_addoption", "small_host", "vm_assets", "vm_home", "vm_place"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What the node runs on; files that test other event loops, too, have a fixture of their own."""
    return "asyncio"
