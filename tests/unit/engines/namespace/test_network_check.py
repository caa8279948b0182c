"""What doctor says of the network of a box, by what a box that was made has told."""

from __future__ import annotations

import pytest

from cloche.engines.namespace import checks


@pytest.mark.parametrize(
    ("ready", "status", "said"),
    [
        ({"not_redirected": "", "tells_refused": True}, "ok", "know no proxy"),
        ({"not_redirected": "", "tells_refused": False}, "degraded", "UDP and pings are not logged"),
        ({"not_redirected": ""}, "degraded", "UDP and pings are not logged"),
        ({"not_redirected": "nf_tables: not supported", "tells_refused": False}, "degraded", "not supported"),
        ({}, "degraded", "the launcher is another one"),
    ],
)
def test_a_kernel_that_lacks_something_is_told_of(ready: dict[str, object], status: str, said: str) -> None:
    found = checks._network(checks.told(ready))
    assert (found.status, found.required) == (status, False)
    assert said in found.summary and (found.remedy is None) == (status == "ok")
