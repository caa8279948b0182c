"""A real node with the vm engine, for tests that use machines as everybody does: through the SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.faults.test_kill import cgroups, processes
from tests.integration.node_harness import SOURCE, end_node
from tests.vm_root import VmPlace

#: emulated machines that start side by side on a small host only wait for one another
AT_ONCE = 4


class VmNode:
    """`home` is CLOCHE_HOME of this process while it lasts. The node starts with the first call."""

    def __init__(self, place: VmPlace, home: Path) -> None:
        self.place, self.home = place, home
        self.ids: list[str] = []

    def create(self, **options: object) -> Sandbox:
        made = Sandbox.create(str(self.place.directory), **options)  # type: ignore[arg-type]
        self.ids.append(made.id)
        return made

    def many(self, count: int, **options: object) -> list[Sandbox]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda _: self.create(**options), range(count)))

    def forked(self, parent: Sandbox, count: int = 1) -> list[Sandbox]:
        children = parent.fork(count)
        self.ids += [child.id for child in children]
        return children

    def clear(self) -> None:
        for info in Sandbox.list():
            self.ids.append(info.id)
            Sandbox.from_id(info.id).remove()

    def leftovers(self) -> list[str]:
        """Files, processes and cgroups of sandboxes, and machines that wait for one."""
        places = ("run", "sandboxes", "standby", "building", "captures", "suspended")
        files = [str(path) for place in places for path in (self.home / place).glob("*")]
        return [*files, *processes(str(self.home), self.ids), *cgroups(self.ids)]


@contextlib.contextmanager
def vm_node_in(place: VmPlace, home: Path, **settings: str) -> Iterator[VmNode]:
    """Nothing of it is left afterwards, or the last test fails."""
    variables = {"CLOCHE_HOME": str(home), "PYTHONPATH": str(SOURCE), "CLOCHE_ENGINE": "vm", **settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        node = VmNode(place, home)
        try:
            yield node
        finally:
            node.clear()
            end_node(home)
        assert node.leftovers() == []
