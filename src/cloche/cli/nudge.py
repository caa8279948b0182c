"""Signals that come just before this program begins to wait in the kernel.

Python runs its handlers between two steps of the interpreter. A signal that falls between the last step and a system
call that waits is therefore seen only when the call returns, which may be never: `input()` waits for a key. The C half
of the handler does run, and writes to a pipe; a thread that reads there interrupts the call."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: what interrupts the call; ignored by programs that do not ask for it
NUDGE = signal.SIGURG
PAUSES_SECONDS = (0.02, 0.1, 0.5)


@contextmanager
def nudged(numbers: frozenset[int], handled: Callable[[], int]) -> Iterator[None]:
    """While this is held, no system call of this thread outlives one of these signals. `handled` counts the signals
    that Python's half has seen: one that it sees by itself, as nearly all, is not followed by a nudge."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    handler = signal.signal(NUDGE, lambda number, frame: None)
    before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    arguments = (readable, numbers, handled, threading.get_ident())
    threading.Thread(target=_interrupt, args=arguments, daemon=True, name="cloche-nudge").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writable)
        signal.signal(NUDGE, handler)


def _interrupt(readable: int, numbers: frozenset[int], handled: Callable[[], int], waiting: int) -> None:
    seen = handled()
    # the bytes are the numbers of the signals
    while came := os.read(readable, 64):
        for pause in PAUSES_SECONDS if numbers.intersection(came) else ():
            time.sleep(pause)
            if handled() != seen:
                break
            signal.pthread_kill(waiting, NUDGE)
        seen = handled()
    os.close(readable)
