"""An ordinary user's QEMU is captured as root's is, though its id is nobody's, or the user's own."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from tests import ordinary_user
from tests.security.conftest import HERE
from tests.vm_assets import put_vm_assets
from tests.vm_root import VmPlace

pytestmark = [pytest.mark.slow, pytest.mark.rootless]


@pytest.mark.parametrize("name", ["cloche-test", "cloche-test1"], ids=["helper", "one"])
def test_a_capture_by_its_owner(vm_place: VmPlace, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("root makes the ordinary users")
    if name == "cloche-test" and not shutil.which("newuidmap"):
        pytest.skip("newuidmap is missing: python3 dev.py setup")
    with ordinary_user.made(name) as user:
        home, root = user.home / "data", user.home / "root"
        put_vm_assets(vm_place.assets, home, own=True)
        shutil.copytree(vm_place.directory, root, symlinks=True)
        for path in [home, root, *home.rglob("*"), *root.rglob("*")]:
            os.lchown(path, user.uid, user.gid)
        done = user.run([sys.executable, str(HERE / "vm_modes.py"), str(home), str(root)])
    assert (done.stdout, done.returncode) == ("known\n", 0), done.stderr
