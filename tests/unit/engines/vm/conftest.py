"""A mirror of packages with a key of its own, and a machine that trusts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.engines.vm.setup import Ground
from tests import package_mirror


@pytest.fixture(scope="session")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[package_mirror.Key]:
    with package_mirror.key(tmp_path_factory.mktemp("gpg") / "key") as made:
        yield made


@pytest.fixture
def mirror(signing: package_mirror.Key) -> package_mirror.Mirror:
    return package_mirror.Mirror(signing)


@pytest.fixture
def address(mirror: package_mirror.Mirror) -> Iterator[str]:
    with package_mirror.served(mirror) as found:
        yield found


@pytest.fixture
def ground(tmp_path: Path, address: str, signing: package_mirror.Key) -> Ground:
    """Its sources name the mirror and its key."""
    root = tmp_path / "root"
    sources = root / "etc/apt/sources.list.d"
    sources.mkdir(parents=True)
    (root / "etc/os-release").write_text("ID=debian\nVERSION_ID=13\nVERSION_CODENAME=stable\n")
    (root / "trusted.gpg").write_bytes(signing.keyring.read_bytes())
    (sources / "it.sources").write_text(
        f"Types: deb\nURIs: {address}\nSuites: {package_mirror.SUITE}\nComponents: main\nSigned-By: /trusted.gpg\n"
    )
    return Ground(root=root, architecture="x86_64", patience_seconds=0.0)
