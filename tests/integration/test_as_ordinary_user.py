"""The namespace engine as ordinary users, with ids of their own in /etc/subuid and without: the conformance suite,
code contexts and the tests of abuse, run by users that this suite makes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

import pytest

from tests import ordinary_user
from tests.ordinary_user import ROOT, OrdinaryUser

pytestmark = [pytest.mark.rootless, pytest.mark.slow, pytest.mark.timeout(300)]

SUITES = {
    "conformance": ["tests/conformance", "--engine", "namespace"],
    "contexts": ["tests/integration/test_contexts.py"],
    # they mostly wait
    "attacks of contexts": ["tests/integration/test_contexts_attacks.py", "-k", "not forged and not flood", "-n", "3"],
    "door": ["tests/integration/test_door_in_box.py"],
    "programs": [*(f"tests/integration/test_programs_{name}.py" for name in ("fetch", "git", "java")), "-k", "not vm"],
    "pool": ["tests/integration/test_pool.py"],
    "abuse": ["tests/integration/test_abuse_processes.py", "tests/integration/test_abuse_disk.py"],
}


@pytest.fixture(params=sorted(ordinary_user.NAMES), scope="module")
def user(request: pytest.FixtureRequest) -> Iterator[OrdinaryUser]:
    if os.geteuid() != 0:
        pytest.skip("only root can make users; the suites themselves have run as this user already")
    with ordinary_user.made(request.param) as made:
        yield made


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_suite(user: OrdinaryUser, suite: str) -> None:
    """It passes, and nothing of the user's is left running."""
    # the plug-in of schemathesis takes two seconds to be loaded, and none of these tests uses it
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "--timeout=100"]
    options += [f"--rootdir={ROOT}", f"--basetemp={user.home}/pytest"]
    paths = [str(ROOT / each) if each.startswith("tests/") else each for each in SUITES[suite]]
    done = user.run([sys.executable, "-m", "pytest", *options, *paths])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout)
    assert ordinary_user.processes_of(user.uid) == []


def test_the_user_is_an_ordinary_one(user: OrdinaryUser) -> None:
    code = "\n".join(
        [
            "import os",
            "from cloche.engines.launched.facts import gather",
            "print(os.getuid(), os.getgroups(), gather().id_mode)",
        ]
    )
    mode = "helper" if ordinary_user.NAMES[user.name.removesuffix(ordinary_user.WORKER)] else "one"
    assert ordinary_user.as_user(user, code).stdout == f"{user.uid} [{user.gid}] {mode}\n"
