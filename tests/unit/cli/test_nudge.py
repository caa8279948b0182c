"""A signal ends a wait in the kernel, even when it came before the wait began."""

from __future__ import annotations

import subprocess
import sys

#: stands for the race: the handler's C half has run, and the call begins before the other half does
PROGRAM = """
import os, signal, sys
from cloche.cli.nudge import NUDGE
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
    signal.signal(NUDGE, again)
    try:
        watch.interruptible(wait)
    except Ended as ended:
        print("ended", ended.number)
"""


def test_a_wait_that_began_after_the_signal_is_interrupted() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("ended 15\n", 0), done.stderr


SEEN = """
import os, signal
from cloche.cli import nudge
from cloche.cli.interrupts import Ended, watched

nudges = []
with watched() as watch:
    signal.signal(nudge.NUDGE, lambda number, frame: nudges.append(number))
    readable, writable = os.pipe()
    try:
        watch.interruptible(lambda: (os.kill(os.getpid(), signal.SIGTERM), os.read(readable, 1)))
    except Ended as ended:
        print("ended", ended.number)
    nudge.time.sleep(2 * nudge.PAUSES_SECONDS[0])
print(nudges)
"""


def test_a_signal_that_is_seen_is_not_followed_by_another() -> None:
    done = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("ended 15\n[]\n", 0), done.stderr
