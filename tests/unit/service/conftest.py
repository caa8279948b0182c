import pytest

from tests.unit.service.place import Place


@pytest.fixture
async def place(tmp_path):
    async with Place(tmp_path) as made:
        yield made
