"""Suspend, fork and snapshot of a real node through both halves of the SDK."""

from __future__ import annotations

import asyncio

import pytest

from cloche import AsyncNode, AsyncSandbox, Node, Sandbox
from cloche.model.errors import AlreadyExistsError, InvalidError, NotFoundError, UnavailableError, WrongStateError
from tests.integration.node_harness import SOURCE, end_node, namespace_home


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    place = tmp_path_factory.mktemp("node") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"CLOCHE_HOME": str(place), "PYTHONPATH": str(SOURCE), "CLOCHE_ENGINE": "fake"}.items():
            patch.setenv(name, value)
        try:
            yield place
        finally:
            end_node(place)


def test_a_process_goes_on_after_suspend_and_in_forks(home):
    with Sandbox.create() as sandbox:
        copier = sandbox.spawn("cat", stdin=True)
        copier.write_stdin(b"before ")
        assert sandbox.suspend().state == "suspended"
        with pytest.raises(WrongStateError):
            sandbox.exec("true")
        assert sandbox.resume().state == "running"
        one, two = sandbox.fork(2, labels={"k": "v"})
        for child in (one, two, sandbox):
            again = child.process(copier.id)
            again.write_stdin(child.id.encode())
            again.close_stdin()
            said = b"".join(event.data for event in again.output() if hasattr(event, "data"))
            assert said == b"before " + child.id.encode()
        for child in (one, two):
            assert child.info().parent_id == sandbox.id and child.known.labels == {"k": "v"}
            child.remove()


def test_a_snapshot_is_listed_carried_and_begun_from(home):
    with Sandbox.create() as sandbox:
        sandbox.files.write("a", "kept")
        made = sandbox.snapshot(name="base", description="d")
        with pytest.raises(AlreadyExistsError):
            sandbox.snapshot(name="base")
    snapshots = Node().snapshots
    assert snapshots.list() == [made] and snapshots.get(made.id[:12]) == made == snapshots.verify("base")
    copy = snapshots.add(iter(list(snapshots.export("base"))), name="copy")
    assert copy.files == made.files
    for ref in ("base", "copy"):
        with Sandbox.create(snapshot=ref) as again:
            assert again.files.read("a") == "kept"
        snapshots.remove(ref)
    with pytest.raises(NotFoundError):
        Sandbox.create(snapshot="base")
    with pytest.raises(InvalidError):
        snapshots.add([b"nothing"])


def test_the_same_with_await(home):
    async def whole() -> None:
        async with await AsyncSandbox.create() as sandbox:
            children = await sandbox.fork(3, names=["x", "y", "z"])
            assert [child.name for child in children] == ["x", "y", "z"]
            await asyncio.gather(*(child.remove() for child in children))
            await sandbox.snapshot(name="async")
            node = AsyncNode()
            pieces = [piece async for piece in node.snapshots.export("async")]
            assert (await node.snapshots.add(pieces, name="again")).name == "again"
            for snapshot in await node.snapshots.list():
                await node.snapshots.remove(snapshot.id)

    asyncio.run(whole())


def test_an_engine_that_cannot_says_so(tmp_path):
    with namespace_home(tmp_path / "home"), Sandbox.create() as sandbox:
        for operation in (sandbox.suspend, sandbox.fork, sandbox.snapshot):
            with pytest.raises(UnavailableError, match="cannot capture the memory") as refused:
                operation()
            assert refused.value.remedy == "--engine vm"
        assert sandbox.exec("true").ok


def test_who_finds_a_process_again_writes_behind_what_was_written(tmp_path):
    with namespace_home(tmp_path / "home"), Sandbox.create() as sandbox:
        first = sandbox.spawn("cat", stdin=True)
        first.write_stdin("one ")
        again = sandbox.process(first.id)
        again.write_stdin("two ")
        again.write_stdin("three")
        again.close_stdin()
        assert b"".join(event.data for event in again.output() if hasattr(event, "data")) == b"one two three"
