"""What passes for the name of a package."""

import pytest

from cloche.mcp.tools import packages
from cloche.model.errors import InvalidError


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("numpy", ("numpy", "")),
        (" numpy == 1.26.4 ", ("numpy", "==1.26.4")),
        ("a-b.c_d[x,y]>=1,<2", ("a-b.c_d", ">=1,<2")),
        ("x~=1.0", ("x", "~=1.0")),
        ("x===1", ("x", "===1")),
        ("x!=1.*", ("x", "!=1.*")),
    ],
)
def test_packages(text, parsed):
    assert packages.parse(text) == parsed


NOT_PACKAGES = {
    "options": ["-r x", "--index-url=x", "-"],
    "places": ["git+x://y", "./x.whl", "/tmp/x", "x @ y"],
    "lists": ["x y", "x y; z", "x==1 2"],
    "shell": ["x;y", "$(id)"],
    "nonsense": ["", "x==", "é", "x" + "=" * 250],
}


@pytest.mark.parametrize("text", [text for kind in NOT_PACKAGES.values() for text in kind])
def test_what_is_no_package(text):
    with pytest.raises(InvalidError, match="not a package"):
        packages.parse(text)


@pytest.mark.parametrize("said", ["", "nonsense", "[]", "[" * 10_000, '{"version": 5}', '{"version": null}'])
def test_what_a_sandbox_says_is_not_believed(said):
    assert packages._found(said) == {}
