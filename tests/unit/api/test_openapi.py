"""The description that is checked in is the one that the routes give."""

from __future__ import annotations

import json
from pathlib import Path

from cloche.api.openapi import document, rendered
from cloche.api.table import ENDPOINTS
from cloche.model.errors import BY_CODE

SPEC = Path(__file__).parents[3] / "spec" / "openapi.json"


def test_the_checked_in_description_is_current() -> None:
    assert SPEC.read_text() == rendered(), "run: python -m cloche.api.openapi > spec/openapi.json"


def test_every_route_is_described_once() -> None:
    described = {(path, method) for path, methods in document()["paths"].items() for method in methods}
    assert described == {(endpoint.path, endpoint.method.lower()) for endpoint in ENDPOINTS}
    assert len({endpoint.operation_id for endpoint in ENDPOINTS}) == len(ENDPOINTS)


def test_every_reference_leads_somewhere() -> None:
    described = document()
    names = set(described["components"]["schemas"])
    text = json.dumps(described)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in names


def test_every_error_code_of_a_route_exists() -> None:
    for endpoint in ENDPOINTS:
        assert set(endpoint.errors) <= set(BY_CODE)
