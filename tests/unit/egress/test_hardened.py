from __future__ import annotations

import subprocess
import sys

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
