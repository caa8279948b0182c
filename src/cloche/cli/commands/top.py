"""`cloche top`."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable

import click

from cloche.cli import arguments, cells, interrupts, render, topscene, topview, usage
from cloche.cli.screen import Screen
from cloche.cli.topstate import State, Wish, press, visible
from cloche.model.errors import ClocheError
from cloche.model.process import ProcessInfo
from cloche.sdk._sync.node import Node
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import NodeUse


@click.command("top")
@click.option("--interval", type=arguments.DURATION, default="2s", show_default=True, help="How often to look.")
@click.option("--once", is_flag=True, help="Print one table; this is what happens without a terminal.")
@arguments.json_flag
def command(interval: float, once: bool, as_json: bool) -> int:
    """Watch what sandboxes use, live.

    Arrows select a sandbox, Enter shows its processes, s stops and k kills it, / filters, and c m d p a n sort by CPU,
    memory, disk, processes, age and name (r: the other way round). CPU is in percent of one CPU.
    """
    with interrupts.orderly():
        if as_json:
            render.print_json(usage.as_json(usage.two_looks(Node())))
        elif once or not (sys.stdin.isatty() and render.colours()):
            scene = topscene.Scene(State(), usage.two_looks(Node()), now=time.time())
            render.print_table(*topview.plain(scene), drop=("LIMIT", "AGE", "DISK", "ID"))
        else:
            with Screen() as screen:
                _Top(screen, max(0.2, interval)).run()
    return 0


class _Top:
    """The node is asked in a thread of its own, so that keys work while it thinks."""

    def __init__(self, screen: Screen, interval: float) -> None:
        self._screen, self._interval = screen, interval
        self._node = Node()
        self._state = State()
        self._history = usage.History()
        self._tracks: list[usage.Track] = []
        self._processes: list[ProcessInfo] = []
        self._about, self._trouble = "", ""
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._again = threading.Event()
        self._ascii = not cells.unicode_here()

    def run(self) -> None:
        threading.Thread(target=self._watch, daemon=True, name="cloche-top").start()
        try:
            while not self._state.over:
                self._draw()
                self._take(self._screen.wait(None))
        except (KeyboardInterrupt, EOFError):
            return

    def _take(self, pressed: list[str]) -> None:
        while not self._news.empty():
            self._news.get()()
        for key in pressed:
            before = self._state.detail
            if key == "ctrl-l":
                self._screen.again()
            press(self._state, key, visible(self._state, self._tracks), self._processes)
            if self._state.detail != before:
                self._processes = []
                self._again.set()
            if self._state.agreed is not None:
                wish, self._state.agreed = self._state.agreed, None
                self._state.message = f"{wish.what} {wish.label} …"
                threading.Thread(target=self._do, args=(wish,), daemon=True, name="cloche-wish").start()

    def _draw(self) -> None:
        columns, rows = size = self._screen.size
        self._state.page = max(1, rows - 4)
        scene = topscene.Scene(self._state, self._tracks, self._processes, self._about, self._trouble, time.time(),
                              self._ascii)  # fmt: skip
        self._screen.draw(topview.frame(scene, columns, rows), size)

    def _tell(self, news: Callable[[], None]) -> None:
        self._news.put(news)
        self._screen.wake()

    def _watch(self) -> None:
        while not self._state.over:
            self._again.clear()
            try:
                found, processes, about = self._node.stats(), self._look_inside(), self._describe()
                self._tell(lambda found=found, processes=processes, about=about: self._show(found, processes, about))  # type: ignore[misc]
            except ClocheError as error:
                self._tell(lambda error=error: setattr(self, "_trouble", str(error)))  # type: ignore[misc]
            self._again.wait(self._interval)

    def _show(self, found: NodeUse, processes: tuple[str | None, list[ProcessInfo]], about: str) -> None:
        self._tracks = self._history.take(found)
        if processes[0] == self._state.detail:
            self._processes = processes[1]
        self._about, self._trouble = about, ""

    def _look_inside(self) -> tuple[str | None, list[ProcessInfo]]:
        """The processes of the sandbox that is shown, those that run first."""
        chosen = self._state.detail
        if chosen is None:
            return None, []
        try:
            found = Sandbox.from_id(chosen).processes()
        except ClocheError:
            return chosen, []
        return chosen, sorted(found, key=lambda each: (each.state != "running", -each.started_at))

    def _describe(self) -> str:
        health = self._node.health()
        up = render.span(float(health.get("uptime_seconds", 0)))
        said = f"node {health.get('pid')} up {up}  engine {health.get('engine') or 'none'}  {health.get('home')}"
        return render.clean(said)

    def _do(self, wish: Wish) -> None:
        try:
            box = Sandbox.from_id(wish.sandbox)
            if wish.process is not None:
                box.process(wish.process).kill()
            elif wish.what == "kill":
                box.kill()
            else:
                box.stop()
            said = f"{wish.what} {wish.label}: done"
        except ClocheError as error:
            said = str(error)
        self._again.set()
        self._tell(lambda: setattr(self._state, "message", said))
