"""A signal ends a wait in the kernel, even when it came before the wait began."""

from __future__ import annotations

import subprocess
import sys

#: stands for the race: the handler's C half has run, and the call begins before the other half does
PROGRAM = """
import os, signal, sys
from cloche.cli import nudge
from cloche.cli.interrupts import Ended, watched

def wait():
    told = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(told)
    os.write(told, bytes([signal.SIGTERM]))   # what the C half does
    late.append(signal.SIGTERM)               # what only the other half will see
    os.read(readable, 1)

def again(number, frame):
    if late:
        raise Ended(late.pop())

readable, writable = os.pipe()
late = []
with watched() as watch:
    signal.signal(signal.SIGALRM, again)
    try:
        watch.interruptible(wait)
    except Ended as ended:
        print("ended", ended.number)
"""


def test_a_wait_that_began_after_the_signal_is_interrupted() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("ended 15\n", 0), done.stderr
