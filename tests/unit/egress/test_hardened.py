from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from cloche.egress.hardened import connections_of_one

#: what only its own user may look into shows by its owner whether a process can be looked into at all
PROGRAM = """
import ctypes, os, resource
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
    # a change of user has closed it already
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
open("/proc/self/environ").close()
from cloche.egress.hardened import harden
harden()
try:
    open("/proc/self/environ").close()
except PermissionError:
    print("closed", resource.getrlimit(resource.RLIMIT_CORE), os.getsid(0) == os.getpid())
"""


def test_nobody_looks_into_it_and_it_leaves_no_core() -> None:
    sources = [path for path in sys.path if path]
    program = f"import sys; sys.path[:0] = {sources!r}\nimport cloche.egress.hardened\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "closed (0, 0) True\n", done.stderr


@pytest.mark.parametrize(
    ("descriptors", "most"),
    [(resource.RLIM_INFINITY, 2048), (1 << 20, 2048), (4096, 512), (1024, 128), (100, 64)],
)
def test_one_sandbox_has_a_share_of_the_descriptors(
    descriptors: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert connections_of_one() == most
