"""Signals that the command line gets: handed to the process inside, or turned into an orderly way out."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from cloche.cli.nudge import nudged
from cloche.model.errors import ClocheError

T = TypeVar("T")
#: after so many Ctrl-C the command has had its chance
PATIENCE = 3
#: a signal that has not ended the work by then is raised once more
AGAIN_SECONDS = 5.0


class Ended(BaseException):
    """A signal asks this program to end. Not an Exception, so that nothing but the way out handles it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.status = 128 + number


@contextmanager
def orderly() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the program instead of ending it where it stands."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _end) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch:
    """SIGINT, SIGTERM and SIGHUP raise Ended inside `interruptible` and wait everywhere else, so that no signal can
    fall between making something and knowing of it. A second one is not made to wait."""

    def __init__(self, alarm: Callable[[float], object] = lambda seconds: None) -> None:
        """`alarm` has `again` called after so many seconds, 0: never."""
        self._alarm = alarm
        self._open = False
        self._waiting: list[int] = []
        self._raised: int | None = None
        self.noted = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        self.noted += 1
        if self._open or self._waiting:
            self._raised = number
            self._alarm(AGAIN_SECONDS)
            raise Ended(number)
        self._waiting.append(number)

    def again(self, number: int, frame: FrameType | None) -> None:
        """Python drops what is raised in a finalizer, and with it a signal that falls there."""
        if self._open and self._raised is not None:
            raise Ended(self._raised)

    def interruptible(self, work: Callable[[], T]) -> T:
        """Do `work`; raises Ended when a signal comes, or came before."""
        # one function and no context manager: between its lines nothing can be raised with the gate left open
        try:
            self._open = True
            if self._waiting:
                raise Ended(self._waiting.pop())
            return work()
        finally:
            self._open = False
            if self._raised is not None:
                self._raised = None
                self._alarm(0)


@contextmanager
def watched() -> Iterator[Watch]:
    """A watch over the signals of this program. Signals that are ignored stay so."""
    watch = Watch(lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds))
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {
        number: signal.signal(number, watch.note) for number in numbers if signal.getsignal(number) != signal.SIG_IGN
    }
    caught = frozenset(int(number) for number in before)
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, watch.again)
    try:
        with nudged(caught, lambda: watch.noted):
            yield watch
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        # one that is still to come must not meet the handler that ends the program
        before[signal.SIGALRM] = signal.SIG_IGN
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told(act: Callable[[int], None], numbers: tuple[int, ...]) -> Iterator[None]:
    """Call `act` with each of these signals, in a thread: the handler interrupts code that holds locks."""
    waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    presses: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        presses.append(number)
        if len(presses) > PATIENCE:
            raise Ended(number)
        waiting.put(number)

    before = {number: signal.signal(number, note) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    sender = threading.Thread(target=_send, args=(act, waiting), daemon=True, name="cloche-signals")
    sender.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        waiting.put(None)


def _send(act: Callable[[int], None], waiting: queue.SimpleQueue[int | None]) -> None:
    while (number := waiting.get()) is not None:
        try:
            act(number)
        except ClocheError:
            pass


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended(number)
