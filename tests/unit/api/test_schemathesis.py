"""What the description allows (and forbids) is sent to the real routes: nothing may crash, and every answer must be one
that the description names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cloche.api.openapi import document
from tests.unit.api.harness import Served, serve

SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
#: made by the fake parts themselves: what they cannot do, and the stub's fixed answers
UNTYPED = {"/v1/health", "/v1/doctor", "/v1/openapi.json"}


@schemathesis.serializer("application/x-tar")
def as_tar(context: Any, value: Any) -> bytes:
    """Any bytes will do: most of them are no archive."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


class Background:
    """A served API on a loop of its own, asked from this thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._serving = serve(directory)
        self._served: Served = self._do(self._serving.__aenter__())

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def close(self) -> None:
        self._do(self._serving.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def send(self, prepared: requests.PreparedRequest) -> httpcore.Response:
        return self._do(self._send(prepared))

    async def _send(self, prepared: requests.PreparedRequest) -> httpcore.Response:
        headers = [(name.encode(), _bytes(value)) for name, value in prepared.headers.items()]
        target = prepared.path_url.encode("ascii")
        url = httpcore.URL(scheme=b"http", host=b"node", target=target)
        request = httpcore.Request(prepared.method or "GET", url, headers=[(b"Host", b"node"), *headers],
                                   content=_bytes(prepared.body))  # fmt: skip
        answer = await self._served.pool.handle_async_request(request)
        try:
            await answer.aread()
        finally:
            await answer.aclose()
        return answer


def _bytes(value: Any) -> bytes:
    if value is None:
        return b""
    return value if isinstance(value, bytes) else str(value).encode("latin-1", "replace")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Background]:
    background = Background(tmp_path_factory.mktemp("api"))
    yield background
    background.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_answers_are_those_of_the_description(api: Background, operation: Any) -> None:
    @settings(max_examples=20, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        if operation.path in ("/v1/node/logs", "/v1/events"):
            case.query = {name: value for name, value in (case.query or {}).items() if name != "follow"}
        if "ref" in (case.path_parameters or {}):
            case.path_parameters = {**case.path_parameters, "ref": "box"}
        prepared = requests.Request(**case.as_transport_kwargs(base_url="http://node")).prepare()
        answer = api.send(prepared)
        said: dict[str, list[str]] = {}
        for name, value in answer.headers:
            said.setdefault(name.decode().lower(), []).append(value.decode())
        if operation.path in UNTYPED or answer.status == 501:
            assert answer.status in (200, 422, 501)
            return
        response = schemathesis.Response(answer.status, said, answer.content, prepared, 0.1, False)
        case.validate_response(response, checks=CHECKS)

    run()
