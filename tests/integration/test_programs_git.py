"""git clones, fetches and pushes through the door."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.dns_server import dns_server
from tests.integration.door_world import certificates
from tests.integration.program_boxes import WAYS, need, node_of, told
from tests.integration.program_servers import git_server
from tests.integration.program_world import DENIED, HERE, INSPECTED, PASSED

AUTHORITY = "/tmp/upstream.pem"
#: more than a buffer of anybody: git sends what is larger in chunks
BIG_BYTES = 3 << 20
WHO = ("-c", "user.name=Tests", "-c", "user.email=tests@example.invalid")

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Forge:
    """`urls`: of the repository, by scheme and host."""

    repository: Path
    urls: dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    place = tmp_path_factory.mktemp("git")
    git("init", "-q", "-b", "main", str(place / "work"))
    (place / "work" / "README").write_text("hello from git\n")
    git("-C", str(place / "work"), "add", ".")
    git("-C", str(place / "work"), *WHO, "commit", "-q", "-m", "first")
    made = place / "served" / "one.git"
    git("clone", "-q", "--bare", str(place / "work"), str(made))
    git("-C", str(made), "config", "http.receivepack", "true")
    return made


@pytest.fixture(scope="module")
def box(
    request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sandbox, Forge]]:
    home, root = tmp_path_factory.mktemp("node") / "home", repository.parent
    with (
        dns_server() as names,
        certificates() as authority,
        git_server(root, None) as plain,
        git_server(root, authority.server(PASSED, INSPECTED)) as tls,
        node_of("namespace", request, home, CLOCHE_DNS=names.address, CLOCHE_UPSTREAM_CA=authority.file) as create,
    ):
        for host in (PASSED, INSPECTED, DENIED):
            names.add(host, "127.0.0.1")
        ports = {"http": plain, "https": tls}
        urls = {(s, h): f"{s}://{h}:{ports[s]}/one.git" for s in ports for h in (PASSED, INSPECTED, DENIED)}
        net = f"{PASSED}:{plain}+{tls}{HERE},{INSPECTED}:{plain}+{tls}{HERE} inspect"
        with create(net=net) as made:
            need(made, "git")
            made.files.write(AUTHORITY, Path(authority.file).read_bytes())
            yield made, Forge(repository, urls)


def git(*argv: str) -> str:
    return subprocess.run(["git", *argv], check=True, capture_output=True, text=True).stdout


def trust(scheme: str, host: str) -> dict[str, str]:
    """Of TLS that the door does not end."""
    return {"GIT_SSL_CAINFO": AUTHORITY} if (scheme, host) == ("https", PASSED) else {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("scheme", "host"), [("http", INSPECTED), ("https", PASSED), ("https", INSPECTED)])
def test_clone_commit_and_push(box: tuple[Sandbox, Forge], scheme: str, host: str, way: str) -> None:
    sandbox, forge = box
    env, place, branch = trust(scheme, host), f"{scheme}-{host}-{way}", f"{scheme}-{host}-{way}"
    done = told(sandbox, way, "git", "clone", "-q", forge.urls[scheme, host], place, **env)
    assert done.exit_code == 0, done.stderr
    assert sandbox.files.read(f"{place}/README") == "hello from git\n"
    script = (
        f"cd {place} && head -c {BIG_BYTES} /dev/urandom > big && git add big && git {' '.join(WHO)} commit -qm big"
    )
    assert sandbox.exec("sh", "-c", script).exit_code == 0
    done = told(sandbox, way, "git", "-C", place, "push", "-q", "origin", f"main:{branch}", **env)
    assert done.exit_code == 0, done.stderr
    pushed = git("-C", str(forge.repository), "cat-file", "-s", f"{branch}:big")
    assert int(pushed) == BIG_BYTES
    done = told(sandbox, way, "git", "-C", place, "ls-remote", "origin", branch, **env)
    assert branch in done.stdout


@pytest.mark.parametrize(("way", "scheme", "reason"), [
    ("redirect", "https", "Could not resolve host"), ("proxy", "https", "403"), ("proxy", "http", "403"),
])  # fmt: skip
def test_a_host_that_is_not_allowed(box: tuple[Sandbox, Forge], way: str, scheme: str, reason: str) -> None:
    sandbox, forge = box
    done = told(sandbox, way, "git", "clone", "-q", forge.urls[scheme, DENIED], "none")
    assert done.exit_code == 128
    assert reason in done.stderr
